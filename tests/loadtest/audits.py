"""Audits that tests ask for: which gateway, which profiles, and what is expected of it."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tests.loadtest.gateways import BARE, KEYS, PLAN, SLOW

from awx_ratelimit import Plan, PlanTable
from awx_ratelimit.loadtest.report.results import Report
from awx_ratelimit.loadtest.run_config import PROFILES, RunConfig
from awx_ratelimit.loadtest.runner import run

STARTER, _, ENTERPRISE = PlanTable.from_toml("examples/plans.toml").plans
WALLET = {"path": "/v1/agents", "stream_path": "/v1/reports/stream?chunks=6&pause_ms=200"}
RATES = ("steady", "burst", "wait", "refusals")


@dataclass(frozen=True, slots=True)
class Spec:
    """One audit of the gateway at `path` of a server. `broken` are the verdicts that fail, and no others do.

    `perhaps` may fail, too, and `shown` of the others must have passed. `keys` are the numbers of the keys.
    """

    name: str
    server: str
    plan: Plan
    profiles: tuple[str, ...]
    broken: frozenset[str] = frozenset()
    shown: frozenset[str] = frozenset()
    path: str = ""
    keys: tuple[int, ...] = (0, 1, 2, 3)
    more: dict[str, Any] = field(default_factory=dict)
    perhaps: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return self.name

    def carried_out(self, url: str) -> Report:
        """What an audit of the server at `url` finds."""
        given = {"stream_path": "/stream", "websocket_path": "/feed", "seconds": 80, **self.more}
        config = RunConfig(url=f"{url}{self.path}", plan=self.plan, profiles=self.profiles, **given)
        began_at = datetime.now(UTC)
        seen = run(config, [KEYS[number] for number in self.keys], lambda _: None)
        told = {name: getattr(seen, name) for name in ("spread_us", "trouble", "interrupted", "workers")}
        return Report.of_run(config, began_at, seen.observations, **told)


def honest(name: str, plan: Plan, profiles: tuple[str, ...], **more: Any) -> Spec:
    """One of ours that keeps its promises, with limits of its own."""
    return Spec(name, "gateways", plan, profiles, path=f"/{name}", **more)


def cheat(name: str, plan: Plan, profile: str, *broken: str, **more: Any) -> Spec:
    """One of ours that breaks one."""
    return Spec(name, "gateways", plan, (profile,), frozenset(broken), path=f"/{name}", **more)


EVERYTHING = frozenset(
    ("answers", "never over", "not under", "slots", "honest wait", "refusals are free", "contract", "isolation")
)
HONEST = honest("honest", PLAN, PROFILES, shown=EVERYTHING)
SLOWLY = honest("honest-slow", SLOW, ("wait", "refusals"), shown=frozenset(("honest wait", "refusals are free")))
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
    cheat("hanging", PLAN, "burst", "answers", more={"timeout_ms": 500}),
)
OVER_TWO = honest("honest-over-workers", PLAN, ("burst", "keys"), shown=frozenset(("never over",)), more={"workers": 2})
#: A window that begins with a request: nothing more until its end, and then all at once.
STRICT_AND_LAX, WAIT = frozenset(("never over", "not under", "contract")), frozenset(("honest wait",))
STRICT, MOVING = frozenset(("not under", "contract")), ("steady", "burst", "isolation")
OTHERS = (
    Spec("slowapi", "slowapi", BARE, (*RATES, "window"), STRICT_AND_LAX, perhaps=WAIT),
    Spec("Flask-Limiter", "flask", BARE, (*RATES, "window"), STRICT_AND_LAX, perhaps=WAIT),
    Spec("slowapi, moving", "slowapi-moving", BARE, MOVING, STRICT, perhaps=WAIT),
    Spec("Flask-Limiter, moving", "flask-moving", BARE, MOVING, STRICT, perhaps=WAIT),
    Spec("nginx", "nginx", PLAN, (*RATES, "streams"), frozenset(("contract",)), frozenset(("never over", "slots"))),
    Spec("demo", "demo", ENTERPRISE, RATES, shown=EVERYTHING - {"slots", "isolation"}, keys=(2,), more=WALLET),
    Spec("demo, slots", "demo", STARTER, ("streams",), shown=frozenset(("slots",)), keys=(0,), more=WALLET),
    Spec(
        "demo, four processes with memory",
        "demo4",
        ENTERPRISE,
        ("burst",),
        frozenset(("never over",)),
        keys=(2,),
        more=WALLET,
    ),
    Spec(
        "demo, four processes on Redis",
        "demo-redis",
        ENTERPRISE,
        RATES,
        shown=EVERYTHING - {"slots", "isolation"},
        keys=(2,),
        more=WALLET,
    ),
    Spec(
        "demo, slots on Redis", "demo-redis", STARTER, ("streams",), shown=frozenset(("slots",)), keys=(0,), more=WALLET
    ),
)
