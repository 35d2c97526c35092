"""The audits of the tests: which gateway, which profiles, and the expected verdicts."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tests.loadtest.gateways import BARE, KEYS, PLAN, SLOW, TEAM

from awx_ratelimit import Plan, PlanTable
from awx_ratelimit.loadtest.report.results import Report
from awx_ratelimit.loadtest.run_config import PROFILES, RunConfig
from awx_ratelimit.loadtest.runner import run

STARTER, _, ENTERPRISE = PlanTable.from_toml("examples/plans.toml").plans
WALLET = {"path": "/v1/agents", "stream_path": "/v1/reports/stream?chunks=6&pause_ms=200"}
RATES = ("steady", "burst", "wait", "refusals")


@dataclass(frozen=True, slots=True)
class AuditCase:
    """One audit of the gateway at `path` of a server.

    Exactly the verdicts in `must_fail` fail, except that those in `may_fail` may fail, too. Those in `must_pass` pass.
    `keys` are indexes into KEYS; `options` are fields of the RunConfig.
    """

    name: str
    server: str
    plan: Plan
    profiles: tuple[str, ...]
    must_fail: frozenset[str] = frozenset()
    must_pass: frozenset[str] = frozenset()
    path: str = ""
    keys: tuple[int, ...] = (0, 1, 2, 3)
    options: dict[str, Any] = field(default_factory=dict)
    may_fail: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return self.name

    def run(self, url: str) -> Report:
        """Audit the server at `url`."""
        options = {"stream_path": "/stream", "websocket_path": "/feed", "seconds": 80, **self.options}
        config = RunConfig(url=f"{url}{self.path}", plan=self.plan, profiles=self.profiles, **options)
        config.validate(len(self.keys))
        began_at = datetime.now(UTC)
        record = run(config, [KEYS[number] for number in self.keys], lambda _: None)
        return Report.of_run(config, began_at, record)


def honest(name: str, plan: Plan, profiles: tuple[str, ...], **fields: Any) -> AuditCase:
    """A gateway of `gateways.py` that keeps its promises, with its own limits."""
    return AuditCase(name, "gateways", plan, profiles, path=f"/{name}", **fields)


def cheat(name: str, plan: Plan, profile: str, *must_fail: str, **fields: Any) -> AuditCase:
    """A gateway of `gateways.py` that breaks a promise."""
    return AuditCase(name, "gateways", plan, (profile,), frozenset(must_fail), path=f"/{name}", **fields)


def demo(name: str, server: str, plan: Plan, profiles: tuple[str, ...], key: int, **fields: Any) -> AuditCase:
    """The demo's wallet API, with one key."""
    return AuditCase(name, server, plan, profiles, keys=(key,), options=WALLET, **fields)


EVERYTHING = frozenset(
    ("answers", "never over", "not under", "slots", "honest wait", "refusals are free", "contract", "isolation")
)
RATE_PROMISES, SLOTS = EVERYTHING - {"slots", "isolation"}, frozenset(("slots",))
#: All but the one for keys of the same account.
_OF_ONE_KEY = tuple(name for name in PROFILES if name != "account")
HONEST = honest("honest", PLAN, _OF_ONE_KEY, must_pass=EVERYTHING)
HONEST_SLOW = honest(
    "honest-slow", SLOW, ("wait", "refusals"), must_pass=frozenset(("honest wait", "refusals are free"))
)
_TOGETHER = {"same_account": True}
HONEST_ACCOUNT = honest(
    "honest-account",
    TEAM,
    ("account", "streams", "isolation"),
    must_pass=frozenset(("never over", "not under", "slots", "honest wait", "contract", "isolation")),
    options=_TOGETHER,
)
HONEST_ACCOUNTS = honest("honest-accounts", TEAM, ("burst", "keys"), must_pass=frozenset(("never over", "not under")))
HONEST_WITH_WORKERS = honest(
    "honest-over-workers", PLAN, ("burst", "keys"), must_pass=frozenset(("never over",)), options={"workers": 2}
)
CHEATS = (
    cheat("fixed-window", PLAN, "window", "never over"),
    cheat("window-of-first-use", PLAN, "window", "never over"),
    cheat("two-counters", PLAN, "burst", "never over"),
    cheat("stingy", PLAN, "steady", "not under", "contract"),
    cheat("leaking", PLAN, "streams", "slots"),
    cheat("unlimited-slots", PLAN, "streams", "slots"),
    cheat("waits-too-short", SLOW, "wait", "honest wait"),
    cheat("waits-too-long", PLAN, "wait", "honest wait"),
    cheat("charging", BARE, "refusals", "refusals are free"),
    cheat("shared", PLAN, "isolation", "isolation"),
    cheat("slow-neighbour", PLAN, "isolation", "isolation"),
    cheat("account-limit-per-key", TEAM, "account", "never over", options=_TOGETHER),
    cheat("account-slots-per-key", TEAM, "streams", "slots", options=_TOGETHER),
    cheat("strict-account", TEAM, "account", "not under", "contract", options=_TOGETHER),
    cheat("month-of-30-days", TEAM, "account", "contract", options=_TOGETHER),
    cheat("hanging", PLAN, "burst", "answers", options={"timeout_ms": 500}),
)
#: A fixed window admits nothing until its end and then a whole burst. A moving window is only too strict.
_FIXED, _MOVING = frozenset(("never over", "not under", "contract")), frozenset(("not under", "contract"))
_WAIT, _MOVING_PROFILES = frozenset(("honest wait",)), ("steady", "burst", "isolation")
PEERS = (
    AuditCase("slowapi", "slowapi", BARE, (*RATES, "window"), _FIXED, may_fail=_WAIT),
    AuditCase("Flask-Limiter", "flask", BARE, (*RATES, "window"), _FIXED, may_fail=_WAIT),
    AuditCase("slowapi, moving", "slowapi-moving", BARE, _MOVING_PROFILES, _MOVING, may_fail=_WAIT),
    AuditCase("Flask-Limiter, moving", "flask-moving", BARE, _MOVING_PROFILES, _MOVING, may_fail=_WAIT),
    AuditCase(
        "nginx", "nginx", PLAN, (*RATES, "streams"), frozenset(("contract",)), frozenset(("never over", "slots"))
    ),
    demo("demo", "demo", ENTERPRISE, RATES, 2, must_pass=RATE_PROMISES),
    demo("demo, slots", "demo", STARTER, ("streams",), 0, must_pass=SLOTS),
    demo(
        "demo, processes with memory", "demo-processes", ENTERPRISE, ("burst",), 2, must_fail=frozenset(("never over",))
    ),
    demo("demo, processes on Redis", "demo-redis", ENTERPRISE, RATES, 2, must_pass=RATE_PROMISES),
    demo("demo, slots on Redis", "demo-redis", STARTER, ("streams",), 0, must_pass=SLOTS),
)
