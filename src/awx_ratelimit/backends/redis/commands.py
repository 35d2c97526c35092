"""The commands that run scripts: by the digest of one that the server knows, or by its text."""

from collections.abc import Sequence
from typing import Any

from awx_ratelimit.backends.redis.codec import Call


def by_sha(call: Call) -> tuple[Any, ...]:
    """The command that runs a script which the server knows."""
    return "EVALSHA", call.script.sha, len(call.keys), *call.keys, *call.args


def _by_text(call: Call) -> tuple[Any, ...]:
    return "EVAL", call.script.text, len(call.keys), *call.keys, *call.args


def all_by_text(calls: Sequence[Call]) -> "list[tuple[Any, ...]]":
    """Each call with the text of its script."""
    return [_by_text(call) for call in calls]


def first_by_text(calls: Sequence[Call]) -> "list[tuple[Any, ...]]":
    """Each script is told once, and known to the calls behind."""
    first: dict[str, Call] = {}
    return [_by_text(call) if first.setdefault(call.script.sha, call) is call else by_sha(call) for call in calls]
