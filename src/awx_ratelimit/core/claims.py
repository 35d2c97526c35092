"""What a claim has to be before a backend may look at it.

A subject becomes a key of dicts and of a server, and a cost becomes debt. So a malformed claim has to fail before it is
stored, counted or sent together with the claims of others.
"""

from typing import Any

from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.rate import EXACT_MAX, shown
from awx_ratelimit.core.validation import check_plan, check_subject


def checked_claim(subject: Any, plan: Any, cost: Any) -> tuple[str, Plan, int]:
    """The claim, with its subject as a plain `str`. Raises TypeError for a wrong type and ValueError for a wrong cost.

    A cost is 0 (a slot and no tokens) to 2**53. A subclass of `str` counts as its text: its own ``__eq__``,
    ``__hash__`` and ``encode`` are never called.
    """
    if type(subject) is not str or not subject:
        subject = checked_subject(subject)
    if not isinstance(plan, Plan):
        check_plan(plan)
    if type(cost) is not int:
        raise ValueError(f"cost is {shown(cost)} ({type(cost).__name__}); use an int from 0 to 2**53")
    if not 0 <= cost <= EXACT_MAX:
        raise ValueError(f"cost is {shown(cost)}; use an int from 0 to 2**53")
    return subject, plan, cost


def checked_subject(subject: Any) -> str:
    """`subject` as a plain `str`. Raises TypeError for anything but a string of at least one character."""
    if not isinstance(subject, str):
        check_subject(subject)
    text = str.__str__(subject)
    if not text:
        check_subject(text)
    return text
