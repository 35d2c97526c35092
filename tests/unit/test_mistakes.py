"""What a newcomer writes wrong is refused where it is written, by one sentence that says what to write instead."""

import asyncio
import re
from collections.abc import Callable
from datetime import date
from typing import Any

import pytest

from awx_ratelimit import STARTER, AsyncLimiter, Caller, Claim, InvalidLimit, Limiter, MemoryBackend, PlanTable

Row = tuple[Callable[[], Any], type[Exception], str]

limiter = Limiter(MemoryBackend())
async_limiter = AsyncLimiter(MemoryBackend())
table = PlanTable.default()

USE = 'use a string such as f"user_{user.id}"'
#: Each thing that takes a subject.
TAKES_A_SUBJECT: dict[str, Callable[[Any], Any]] = {
    "Caller": Caller,
    "Claim": lambda subject: Claim(subject, STARTER),
    "acquire": lambda subject: limiter.acquire(subject, STARTER),
    "claim": lambda subject: limiter.claim(subject, STARTER, 1),
    "peek": lambda subject: limiter.peek(subject, STARTER),
    "hold": lambda subject: limiter.hold(subject, STARTER).__enter__(),
    "reset": limiter.reset,
    "async acquire": lambda subject: asyncio.run(async_limiter.acquire(subject, STARTER)),
    "async claim": lambda subject: asyncio.run(async_limiter.claim(subject, STARTER, 1)),
    "async peek": lambda subject: asyncio.run(async_limiter.peek(subject, STARTER)),
    "async hold": lambda subject: asyncio.run(async_limiter.hold(subject, STARTER).__aenter__()),
    "async reset": lambda subject: asyncio.run(async_limiter.reset(subject)),
}
SUBJECTS: list[tuple[Any, str]] = [
    (42, f"subject is 42 (int); {USE}"),
    (True, f"subject is True (bool); {USE}"),
    (4.5, f"subject is 4.5 (float); {USE}"),
    (None, f"subject is None (NoneType); {USE}"),
    (b"awx_example_key", f"subject is bytes; {USE}"),
    (("user", 1), f"subject is a tuple; {USE}"),
    (date(2030, 1, 1), f"subject is a date; {USE}"),
    (str, f"subject is the class str; {USE}"),
    ("", f"subject is '' (str); {USE.replace('a string', 'a non-empty string')}"),
    (STARTER, "subject is a Plan; put the subject first and the plan second: acquire(subject, plan)"),
]
VERBS: list[Row] = [
    (
        lambda: limiter.acquire("u", "starter"),  # type: ignore[arg-type]
        TypeError,
        "plan is 'starter' (str); use a Plan, or look one up: table.resolve(Caller(subject, 'starter'))",
    ),
    (
        lambda: asyncio.run(async_limiter.acquire("u", table)),  # type: ignore[arg-type]
        TypeError,
        'plan is a PlanTable; use a Plan such as STARTER or Plan.of("api", per_minute=60)',
    ),
    (
        lambda: limiter.peek("u", None),  # type: ignore[arg-type]
        TypeError,
        'plan is None (NoneType); use a Plan such as STARTER or Plan.of("api", per_minute=60)',
    ),
    (
        lambda: limiter.acquire(STARTER, "u"),  # type: ignore[arg-type]
        TypeError,
        "subject is a Plan; put the subject first and the plan second: acquire(subject, plan)",
    ),
    (
        lambda: limiter.acquire("u", STARTER, 1.0),  # type: ignore[arg-type]
        ValueError,
        "cost is 1.0; allowed is a whole number of at least 1",
    ),
    (lambda: Claim("u", STARTER, -1), InvalidLimit, "cost is -1; allowed is a whole number of at least 0"),
]
CALLERS: list[Row] = [
    (
        lambda: Caller("u", 5),  # type: ignore[arg-type]
        TypeError,
        "plan is 5 (int); use the name of a plan, a Plan, or None for the default",
    ),
    (
        lambda: Caller("u", account=7),  # type: ignore[arg-type]
        TypeError,
        f"account is 7 (int); {USE}",
    ),
    (
        lambda: table.resolve(Caller("u", overrides=[("per_minute", 5)])),  # type: ignore[arg-type]
        InvalidLimit,
        "caller: overrides: [('per_minute', 5)] is no table; allowed is a mapping with the keys <name>",
    ),
]


@pytest.mark.parametrize(("subject", "says"), SUBJECTS)
@pytest.mark.parametrize("taker", TAKES_A_SUBJECT)
def test_a_subject_is_a_string_that_is_not_empty(taker: str, subject: Any, says: str) -> None:
    """Whatever takes a subject refuses anything but a non-empty string, and never shows bytes, which may be a key."""
    with pytest.raises(TypeError, match=f"^{re.escape(says)}$"):
        TAKES_A_SUBJECT[taker](subject)


@pytest.mark.parametrize(("mistake", "error", "says"), [*VERBS, *CALLERS])
def test_a_mistake_is_refused_by_a_sentence_that_helps(
    mistake: Callable[[], Any], error: type[Exception], says: str
) -> None:
    """The error comes from the line with the mistake, and is exactly this sentence."""
    with pytest.raises(error, match=f"^{re.escape(says)}$"):
        mistake()
