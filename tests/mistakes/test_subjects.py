"""Subjects that are not strings."""

import asyncio
import re
from collections.abc import Callable
from datetime import date
from typing import Any

import pytest
from tests.mistakes.cases import async_limiter, limiter

from awx_ratelimit import STARTER, Caller, Claim

USE = 'use a string such as f"user_{user.id}"'
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


@pytest.mark.parametrize(("subject", "error"), SUBJECTS)
@pytest.mark.parametrize("taker", TAKES_A_SUBJECT)
def test_subject_is_a_non_empty_string(taker: str, subject: Any, error: str) -> None:
    """Everything that takes a subject refuses other values; the error never shows bytes, which may be a key."""
    with pytest.raises(TypeError, match=f"^{re.escape(error)}$"):
        TAKES_A_SUBJECT[taker](subject)
