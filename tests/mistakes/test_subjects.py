"""Subjects that are not strings."""

import asyncio
import re
from collections.abc import Callable
from datetime import date
from typing import Any

import pytest
from tests.mistakes.cases import async_limiter, limiter

from awx_ratelimit import STARTER, Caller, Claim

USE = 'write f"user_{user.id}"'
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
    (42, f"subject: expected a non-empty string, got 42 (int); {USE}"),
    (True, f"subject: expected a non-empty string, got True (bool); {USE}"),
    (4.5, f"subject: expected a non-empty string, got 4.5 (float); {USE}"),
    (None, f"subject: expected a non-empty string, got None (NoneType); {USE}"),
    (b"awx_example_key", f"subject: expected a non-empty string, got bytes; {USE}"),
    (("user", 1), f"subject: expected a non-empty string, got a tuple; {USE}"),
    (date(2030, 1, 1), f"subject: expected a non-empty string, got a date; {USE}"),
    (str, f"subject: expected a non-empty string, got the class str; {USE}"),
    ("", f"subject: expected a non-empty string, got '' (str); {USE}"),
    (STARTER, "subject: expected a non-empty string, got a Plan; write acquire(subject, plan)"),
]


@pytest.mark.parametrize(("subject", "error"), SUBJECTS)
@pytest.mark.parametrize("taker", TAKES_A_SUBJECT)
def test_subject_is_a_non_empty_string(taker: str, subject: Any, error: str) -> None:
    """Everything that takes a subject refuses other values; the error never shows bytes, which may be a key."""
    with pytest.raises(TypeError, match=f"^{re.escape(error)}$"):
        TAKES_A_SUBJECT[taker](subject)
