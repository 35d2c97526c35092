"""The limits of both apps: plans, enough keys for every test, exempt paths, and a clock that tests advance.

The clock stands still until a test advances it, so the result of a burst does not depend on its speed.
"""

import os
from pathlib import Path

from awx_ratelimit import Caller, Concurrency, Decision, Plan, PlanTable, Rate, Rule, StaticKeys
from awx_ratelimit.testing import ManualClock

BURST = 10
AMPLE = 10_000
SLOTS = 3
MANY_SLOTS = 50
KEYS_PER_PLAN = 200
#: Whose slot is taken while the app is imported: the last of the keys, which no test is given.
IMPORT_SUBJECT = f"slots-{KEYS_PER_PLAN - 1:03}"
#: How much of a refused upload is read under /large.
LARGE_DRAIN_BYTES = 4 * 1024 * 1024
FILE_BYTES = 16 * 1024 * 1024

TICK_SECONDS = 0.02
#: A stream ends by itself after this time.
MAX_OPEN_SECONDS = 15.0

PLANS = PlanTable(
    (
        Plan("burst", (Rate("minute", BURST, 60_000),), Concurrency(MANY_SLOTS)),
        Plan("ample", (Rate("minute", AMPLE, 60_000),), Concurrency(MANY_SLOTS)),
        Plan("slots", (Rate("minute", AMPLE, 60_000),), Concurrency(SLOTS)),
    )
)
RULES = (
    Rule("/health", exempt=True),
    Rule("/free/{subject}", exempt=True),
    Rule("/clock/{ms}", exempt=True),
    Rule("/release-import", exempt=True),
)
CLOCK = ManualClock(1_700_000_000_000)


class AppError(Exception):
    """The exception that the apps raise on purpose."""


def api_key(subject: str) -> str:
    """The key of a subject; a subject is named for its plan: ``slots-017``."""
    return f"awx_test_{subject}"


def static_keys() -> StaticKeys:
    """Every key of every plan."""
    subjects = [(f"{plan.name}-{number:03}", plan.name) for plan in PLANS.plans for number in range(KEYS_PER_PLAN)]
    return StaticKeys({api_key(subject): Caller(subject, plan) for subject, plan in subjects})


def plan_of(subject: str) -> Plan:
    """The plan that a subject is named for."""
    return PLANS.resolve(Caller(subject, subject.partition("-")[0]))


def free_slots(decision: Decision) -> int:
    """How many slots were free after a decision."""
    return decision.usages[-1].remaining


def folder() -> Path:
    """Where the test and its server meet: a stream ends when the file of its name is there."""
    return Path(os.environ["AWX_TEST_FOLDER"])


def may_end(name: str) -> bool:
    """Whether the test has let the stream `name` end."""
    return (folder() / name).exists()
