"""`Order`: what is to be audited and how, as it goes from process to process. It has no key in it."""

import re
from dataclasses import dataclass, fields
from typing import Any, Final, Self
from urllib.parse import urlsplit

from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.rate import Concurrency, Rate
from awx_ratelimit.loadtest.audit.contract import REFUSED_STATUS

#: In the order in which they are run: first what needs an unused budget, in the end what leaves none.
PROFILES: Final = (
    "steady", "burst", "wait", "refusals", "over", "square", "window", "streams", "websockets", "isolation", "keys",
)  # fmt: skip
SOAK: Final = "soak"
#: What stands in a request's line as it is (RFC 9112), in the name of a header (RFC 9110), and in its value.
_WRITTEN, _TOKEN, _VALUE = re.compile(r"[!-~]+"), re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"), re.compile(r"[ -~]+")
_ADDRESS, _LAST_PORT = re.compile(r"[!-~]*:[0-9]{1,5}"), 65_535
#: A rate whose full burst comes back within this time can be used up, and waited for, in one run.
_PATIENCE_MS = 90_000


@dataclass(frozen=True, slots=True)
class Order:
    """One run against the gateway at `url`, whose keys have `plan`.

    `path` is asked with `method`, and charges `cost`; `stream_path` and `websocket_path` are held open, and charge 1.
    The key stands in `key_header` as `key_form` says. `refused_status` is what the gateway refuses with. The run ends
    after `seconds` and after `requests`, whichever is first; a request is given up after `timeout_ms`. With `workers`
    the load comes from so many other processes, of this machine or (`remote`) of others, which reach `bind`.
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
    seconds: int = 300
    requests: int = 20_000
    timeout_ms: int = 5_000
    users: int = 10
    workers: int = 0
    remote: bool = False
    bind: str = "127.0.0.1:0"
    web: str | None = None

    def check(self, keys: int) -> None:
        """Raise ValueError for what cannot be carried out with so many keys, and say what is allowed."""
        known = (*PROFILES, SOAK)
        wrong = [name for name in self.profiles if name not in known]
        if wrong or not self.profiles:
            raise ValueError(f"there is no profile {', '.join(wrong)!r}; allowed are {', '.join(known)}")
        if "streams" in self.profiles and not self.stream_path:
            raise ValueError("the profile streams needs --stream-path")
        if "websockets" in self.profiles and not self.websocket_path:
            raise ValueError("the profile websockets needs --websocket-path")
        if "isolation" in self.profiles and keys < 2:
            raise ValueError(f"the profile isolation needs two keys, and there is {keys}; give two, or leave it out")
        for rate in self.rates:
            if rate.burst < self.cost:
                raise ValueError(
                    f"a request costs {self.cost}, and the burst of {rate.name!r} is {rate.burst}; lower the cost, or "
                    "name the plan of the key"
                )
        self._check_request()
        self._check_workers()

    def _check_request(self) -> None:
        if not _is_url(self.url):
            raise ValueError("the URL is none of a gateway; allowed is http:// or https://, a host, and a path")
        for path in (self.path, self.stream_path, self.websocket_path):
            if path is not None and not (path.startswith("/") and _WRITTEN.fullmatch(path)):
                raise ValueError(f"the path {path!r} is none; allowed is visible ASCII that begins with /")
        if not (_TOKEN.fullmatch(self.method) and _TOKEN.fullmatch(self.key_header)):
            raise ValueError("the method and the key's header are each a word of letters, digits and -")
        if "{key}" not in self.key_form or not _VALUE.fullmatch(self.key_form):
            raise ValueError("the form of the key has no {key} in it, or what is not visible ASCII")

    def _check_workers(self) -> None:
        if self.remote and not self.workers:
            raise ValueError("--remote needs --workers: how many will come")
        for address in filter(None, (self.bind, self.web)):
            if not _ADDRESS.fullmatch(address) or int(address.rpartition(":")[2]) > _LAST_PORT:
                raise ValueError(f"the address {address!r} is none; allowed is HOST:PORT")

    def as_json(self) -> dict[str, Any]:
        """What `of_json` takes."""
        rates = [[rate.name, rate.tokens, rate.period_ms, rate.burst, rate.refill] for rate in self.rates]
        slots = self.plan.concurrency and self.plan.concurrency.slots
        said = {field.name: getattr(self, field.name) for field in fields(self)}
        return {**said, "plan": {"name": self.plan.name, "rates": rates, "slots": slots}}

    @classmethod
    def of_json(cls, said: dict[str, Any]) -> Self:
        """The order that was said."""
        plan = said["plan"]
        rates = tuple(Rate(*rate) for rate in plan["rates"])
        slots = Concurrency(plan["slots"]) if plan["slots"] else None
        known = {field.name for field in fields(cls)}
        given = {name: value for name, value in said.items() if name in known}
        return cls(**{**given, "plan": Plan(plan["name"], rates, slots), "profiles": tuple(said["profiles"])})

    def share(self, number: int) -> int:
        """The requests that the worker of that number may make: all together as many as the run, whoever comes."""
        each, more = divmod(self.requests, self.workers)
        return each + (number < more) if number < self.workers else 0

    @property
    def rates(self) -> tuple[Rate, ...]:
        """The rates that are enforced."""
        return tuple(rate for rate in self.plan.rates if not (rate.shadow or self.plan.shadow))

    @property
    def reachable(self) -> tuple[Rate, ...]:
        """The rates that a run can use up and wait for."""
        soon = tuple(rate for rate in self.rates if _fill_ms(rate) <= _PATIENCE_MS)
        return soon or tuple(sorted(self.rates, key=lambda rate: rate.burst)[:1])

    @property
    def burst(self) -> int:
        """How many requests an unused key may make at once."""
        return min((rate.burst // self.cost for rate in self.rates), default=self.users)

    @property
    def interval_s(self) -> float:
        """The time in which one request more may be made."""
        return max((self.cost * rate.period_ms / rate.tokens / 1_000 for rate in self.reachable), default=0.1)

    @property
    def fill_s(self) -> float:
        """The time in which a used-up key has its burst again."""
        return min(_PATIENCE_MS, max((_fill_ms(rate) for rate in self.reachable), default=0)) / 1_000

    @property
    def slots(self) -> int:
        """How many requests may be under way at once."""
        return self.plan.slots if self.plan.concurrency else self.users


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return False
    plain = _WRITTEN.fullmatch(text) and not (parts.username or parts.query or parts.fragment)
    return bool(plain and parts.scheme in ("http", "https") and parts.hostname and port != 0)


def _fill_ms(rate: Rate) -> float:
    return rate.period_ms if rate.calendar else rate.burst * rate.period_ms / rate.tokens
