"""`RunConfig`: the options of one run. It contains no keys, so it may be sent from process to process."""

import re
from dataclasses import dataclass, fields
from typing import Any, Final, Self
from urllib.parse import urlsplit

from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.rate import Concurrency, Rate
from awx_ratelimit.loadtest.audit.contract import REFUSED_STATUS
from awx_ratelimit.loadtest.audit.verdict import enforced_rates, request_rates

#: In the order in which they run: profiles that need an unused budget come first, those that exhaust it last.
PROFILES: Final = (
    "steady", "burst", "wait", "refusals", "over", "square", "window", "streams", "websockets", "isolation", "keys",
    "account",
)  # fmt: skip
SOAK: Final = "soak"
#: Characters of a request target (RFC 9112), of a header's name (RFC 9110), and of a header's value.
_TARGET, _TOKEN, _VALUE = re.compile(r"[!-~]+"), re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"), re.compile(r"[ -~]+")
_ADDRESS, _MAX_PORT = re.compile(r"[!-~]*:[0-9]{1,5}"), 65_535
#: A run can exhaust a rate and wait for its refill if the refill takes at most this long.
_MAX_REFILL_MS = 90_000


@dataclass(frozen=True, slots=True)
class RunConfig:
    """One run against the gateway at `url`, whose keys have `plan`.

    - `same_account`: all keys belong to one account, and share the limits `plan.account`. Else each has its own.
    - `path`, `method`, `cost`: the plain request, and the cost that the gateway charges for it.
    - `stream_path`, `websocket_path`: requests that stay open, at a cost of 1.
    - `key_header`, `key_form`: the header that carries the key, and its value with a ``{key}`` placeholder.
    - `refused_status`: the HTTP status that means "refused".
    - `seconds`, `requests`: the run ends when the first of these limits is reached.
    - `timeout_ms`: the time limit of one request.
    - `workers`: the number of Locust worker processes; 0 sends all requests from one process.
    - `remote`, `bind`: whether the workers start on other machines, and the address at which they reach this one.
    - `web`: the address of Locust's live web page.
    """

    url: str
    plan: Plan
    profiles: tuple[str, ...] = PROFILES
    path: str = "/"
    method: str = "GET"
    cost: int = 1
    stream_path: str | None = None
    websocket_path: str | None = None
    key_header: str = "X-API-Key"
    key_form: str = "{key}"
    refused_status: int = REFUSED_STATUS
    seconds: int = 900
    requests: int = 20_000
    timeout_ms: int = 5_000
    users: int = 10
    workers: int = 0
    remote: bool = False
    bind: str = "127.0.0.1:0"
    web: str | None = None
    same_account: bool = False

    def validate(self, key_count: int) -> None:
        """Raise ValueError if the run is not possible with `key_count` keys."""
        if self.plan.is_unlimited:
            raise ValueError(f"plan: expected one with limits, got {self.plan.name!r}, which is unlimited")
        if self.same_account and self.plan.account is None:
            raise ValueError(
                f"same account: expected a plan with limits that keys share, got {self.plan.name!r}; "
                "add a table `account` to the plan, or omit --same-account"
            )
        self._validate_profiles(key_count)
        for rate in self.rates:
            if rate.burst < self.cost:
                raise ValueError(
                    f"cost: expected at most {rate.burst}, the burst of {rate.name!r}, got {self.cost}; lower the cost "
                    "or name the plan of the key"
                )
        self._validate_request()
        self._validate_addresses()

    def _validate_profiles(self, key_count: int) -> None:
        known = (*PROFILES, SOAK)
        unknown = [name for name in self.profiles if name not in known]
        if unknown or not self.profiles:
            raise ValueError(f"profiles: expected one or more of {', '.join(known)}; got {', '.join(unknown)!r}")
        if "streams" in self.profiles and not self.stream_path:
            raise ValueError("the profile streams needs --stream-path")
        if "websockets" in self.profiles and not self.websocket_path:
            raise ValueError("the profile websockets needs --websocket-path")
        if "isolation" in self.profiles and key_count < 2:
            raise ValueError(f"the profile isolation needs two keys, got {key_count}; add a key or omit the profile")
        if "account" in self.profiles and not (self.same_account and key_count > 1):
            raise ValueError("the profile account needs --same-account, and two or more keys")

    def _validate_request(self) -> None:
        if not _is_url(self.url):
            raise ValueError("url: expected http:// or https:// with a host and an optional path, without a user name")
        for path in (self.path, self.stream_path, self.websocket_path):
            if path is not None and not (path.startswith("/") and _TARGET.fullmatch(path)):
                raise ValueError(f"path: expected visible ASCII that begins with /, got {path!r}")
        if not (_TOKEN.fullmatch(self.method) and _TOKEN.fullmatch(self.key_header)):
            raise ValueError("method and key header: expected one word of letters, digits and - each")
        if "{key}" not in self.key_form or not _VALUE.fullmatch(self.key_form):
            raise ValueError("key form: expected visible ASCII that contains {key}")

    def _validate_addresses(self) -> None:
        if self.remote and not self.workers:
            raise ValueError("--remote needs --workers, the number of workers to wait for")
        for address in filter(None, (self.bind, self.web)):
            if not _ADDRESS.fullmatch(address) or int(address.rpartition(":")[2]) > _MAX_PORT:
                raise ValueError(f"address: expected HOST:PORT, got {address!r}")

    def as_json(self) -> dict[str, Any]:
        """A dictionary for `from_json`, which JSON can represent."""
        return {**{field.name: getattr(self, field.name) for field in fields(self)}, "plan": plan_json(self.plan)}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """The configuration in a dictionary of `as_json`. Unknown fields are ignored."""
        names = {field.name for field in fields(cls)}
        known = {name: value for name, value in values.items() if name in names}
        return cls(**{**known, "plan": _plan_from_json(values["plan"]), "profiles": tuple(values["profiles"])})

    def requests_of_worker(self, number: int) -> int:
        """How many requests worker `number` may make. All workers together make as many as the run."""
        each, remainder = divmod(self.requests, self.workers)
        return each + (number < remainder) if number < self.workers else 0

    @property
    def rates(self) -> tuple[Rate, ...]:
        """The rates of requests that the gateway enforces on one key: its own, and those of its account."""
        return tuple(rate for plan in self._plans for rate in request_rates(plan))

    @property
    def _plans(self) -> tuple[Plan, ...]:
        return (self.plan,) if self.plan.account is None else (self.plan, self.plan.account)

    @property
    def reachable_rates(self) -> tuple[Rate, ...]:
        """The rates that a run can exhaust and wait for; at least the one with the smallest burst."""
        quick = tuple(rate for rate in self.rates if _refill_ms(rate) <= _MAX_REFILL_MS)
        return quick or tuple(sorted(self.rates, key=lambda rate: rate.burst)[:1])

    @property
    def burst(self) -> int:
        """How many requests an unused key may make at once."""
        return min((rate.burst // self.cost for rate in self.rates), default=self.users)

    @property
    def interval_s(self) -> float:
        """The time in which the cost of one request refills."""
        return max((self.cost * rate.period_ms / rate.tokens / 1_000 for rate in self.reachable_rates), default=0.1)

    @property
    def refill_s(self) -> float:
        """The time in which a whole burst refills."""
        return min(_MAX_REFILL_MS, max((_refill_ms(rate) for rate in self.reachable_rates), default=0)) / 1_000

    @property
    def slots(self) -> int:
        """How many requests of one key may be in flight at once."""
        return min((plan.slots for plan in self._plans if plan.concurrency), default=self.users)

    @property
    def shared_slots(self) -> int | None:
        """How many requests of all keys together may be in flight at once; None if the keys share no slots."""
        account = self.plan.account
        return account.slots if self.same_account and account is not None and account.concurrency else None


_RATE_FIELDS: Final = (
    "name", "tokens", "burst", "refill", "measure", "period", "anchor_day", "anchor_month", "timezone",
)  # fmt: skip


def plan_json(plan: Plan) -> dict[str, Any]:
    """The enforced limits of a plan and its account, as JSON. `period_ms` is null for calendar periods."""
    rates = [
        {**{name: getattr(rate, name) for name in _RATE_FIELDS}, "period_ms": None if rate.period else rate.period_ms}
        for rate in enforced_rates(plan)
    ]
    slots = plan.concurrency and plan.concurrency.slots
    account = None if plan.account is None else plan_json(plan.account)
    return {"name": plan.name, "rates": rates, "concurrent": slots, "account": account}


def _plan_from_json(values: dict[str, Any]) -> Plan:
    rates = tuple(Rate(**rate) for rate in values["rates"])
    slots = Concurrency(values["concurrent"]) if values["concurrent"] else None
    account = _plan_from_json(values["account"]) if values["account"] else None
    return Plan(values["name"], rates, slots, account, is_unlimited=not (rates or slots))


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return False
    plain = _TARGET.fullmatch(text) and not (parts.username or parts.query or parts.fragment)
    return bool(plain and parts.scheme in ("http", "https") and parts.hostname and port != 0)


def _refill_ms(rate: Rate) -> float:
    return rate.period_ms if rate.calendar else rate.burst * rate.period_ms / rate.tokens
