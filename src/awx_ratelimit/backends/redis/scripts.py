"""The Lua scripts that run on the server, the commands that call them, and plans, leases and times as they read them.

At its `maxmemory` limit, a server still runs the scripts that give something back or renew a lease, so slots neither
leak nor lapse. It refuses claims. The layouts are documented in acquire.lua and renew.lua.
"""

from collections.abc import Sequence
from hashlib import sha1
from importlib.resources import files
from math import nan
from struct import Struct
from typing import Any, Final, NamedTuple

from awx_ratelimit.core.plan import Plan, PlanCache
from awx_ratelimit.core.rate import EXACT_MAX, Rate
from awx_ratelimit.errors import InvalidLimit


class Script(NamedTuple):
    """A script: `sha` is what EVALSHA takes, `text` what EVAL takes."""

    name: str
    text: str
    sha: str


class Call(NamedTuple):
    """One call of a script. On a cluster, all its keys must share a slot."""

    script: Script
    keys: Sequence[bytes]
    args: Sequence[bytes]


_ALLOW_OOM = "#!lua flags=allow-oom\n"


def _script(name: str, *shared: str, flags: str = "") -> Script:
    folder = files(__package__) / "lua"
    text = flags + "\n".join(folder.joinpath(f"{part}.lua").read_text("utf-8") for part in (*shared, name))
    return Script(name, text, sha1(text.encode(), usedforsecurity=False).hexdigest())


ACQUIRE = _script("acquire", "state", "limits")
#: The same script, for calls that only release leases.
RELEASE = _script("acquire", "state", "limits", flags=_ALLOW_OOM)
RENEW = _script("renew", "state", flags=_ALLOW_OOM)
HEAL = _script("heal", "state", "limits")
REFUND = _script("refund", "state", "limits", flags=_ALLOW_OOM)
RESET = _script("reset", "state", flags=_ALLOW_OOM)


def evalsha(call: Call) -> tuple[Any, ...]:
    """The EVALSHA command: runs a script that the server already has."""
    return "EVALSHA", call.script.sha, len(call.keys), *call.keys, *call.args


def eval_all(calls: Sequence[Call]) -> "list[tuple[Any, ...]]":
    """EVAL commands: each call sends the text of its script."""
    return [("EVAL", call.script.text, len(call.keys), *call.keys, *call.args) for call in calls]


def eval_first(calls: Sequence[Call]) -> "list[tuple[Any, ...]]":
    """EVAL for the first call of each script, EVALSHA for the calls after it."""
    seen: set[str] = set()
    commands: list[tuple[Any, ...]] = []
    for call in calls:
        commands += [evalsha(call)] if call.script.sha in seen else eval_all([call])
        seen.add(call.script.sha)
    return commands


#: The largest time, in ms from the epoch. Sums of times must stay below 2**53, where Lua's numbers stop being exact.
MAX_TIME_MS: Final = 2**52
#: The most rates of a plan: a script reports exceeded limits as the bits of one number.
MAX_RATES: Final = 50
#: A lease id is the owner's 128 bits, followed by a sequence number of this many bits.
SEQUENCE_BITS: Final = 48
#: Masks the sequence number of a lease id.
SEQUENCE: Final = (1 << SEQUENCE_BITS) - 1

_PLAN = Struct("<BHBIdd")
_RATE = Struct("<ddddB")
_LEASE = Struct("<QdId")
_STATE_VERSION = 1
_MAX_TTL_MS = 2**32 - 1


class EncodedPlan(NamedTuple):
    """A plan as a script argument, and how to unpack a script's answer to a claim under this plan."""

    argument: bytes
    answer_bytes: int
    unpack_answer: Any


def _encode(plan: Plan) -> EncodedPlan:
    if len(plan.rates) > MAX_RATES:
        raise InvalidLimit(f"plan {plan.name!r}: expected at most {MAX_RATES} rates on Redis, got {len(plan.rates)}")
    names = b"".join(
        bytes([len(rate.name)]) + rate.name.encode() + rate.unit.to_bytes(8, "little") for rate in plan.rates
    )
    head = bytes([_STATE_VERSION, len(plan.rates)]) + len(names).to_bytes(2, "little") + names
    concurrency = plan.concurrency
    slots_mode = (1 if plan.enforced & plan.slot_bit else 2) if concurrency else 0
    ttl_ms = min(concurrency.ttl_ms, _MAX_TTL_MS) if concurrency else 0
    slots, max_hold_ms = min(plan.slots, EXACT_MAX), min(plan.max_hold_ms or 0, EXACT_MAX)
    numbers = _PLAN.pack(len(plan.rates), len(head), slots_mode, ttl_ms, slots, max_hold_ms)
    rates = b"".join(_encode_rate(rate, bool(plan.enforced & bit)) for _, bit, rate in plan.numbered_rates)
    answer = Struct(f"<{3 + 2 * len(plan.rates)}q")
    return EncodedPlan(numbers + head + rates, answer.size, answer.unpack_from)


def _encode_rate(rate: Rate, enforced: bool) -> bytes:
    drain = 0 if rate.calendar else rate.drain
    # A period longer than all times stays longer than all times when it is cut to the largest exact number.
    return _RATE.pack(rate.unit, drain, rate.capacity, min(rate.period_ms, EXACT_MAX), enforced)


#: The encoding of a plan, cached. Raises InvalidLimit for more than `MAX_RATES` rates.
encoded_plan: Final = PlanCache(_encode).get


def argument_index(plan: Plan, indexes: dict[int, int], args: list[bytes]) -> int:
    """The index of `plan` among the script's arguments, from 1. Appends the plan to `args` if it is not there yet.

    `indexes` maps the identities of plans to their indexes.
    """
    index = indexes.get(id(plan))
    if index is None:
        args.append(encoded_plan(plan).argument)
        index = indexes[id(plan)] = len(args)
    return index


def encode_lease(plan: Plan, lease_id: int, granted_at_ms: int) -> bytes:
    """Encode a lease of `plan` for renewal."""
    assert plan.concurrency is not None
    ttl_ms = min(plan.concurrency.ttl_ms, _MAX_TTL_MS)
    return _LEASE.pack(lease_id & SEQUENCE, min(plan.slots, EXACT_MAX), ttl_ms, ends_ms(plan, granted_at_ms))


def ends_ms(plan: Plan, granted_at_ms: int) -> int:
    """When a lease reaches its `max_hold_ms`; 0 if the plan has none."""
    return granted_at_ms + min(plan.max_hold_ms, EXACT_MAX) if plan.max_hold_ms else 0


def encode_time(now_ms: int | None) -> float:
    """`now_ms` as the scripts take it; None, the server's own time, becomes NaN. Raises ValueError beyond 2**52 ms."""
    if now_ms is None:
        return nan
    if -MAX_TIME_MS <= now_ms <= MAX_TIME_MS:
        return now_ms
    raise ValueError(f"clock: expected -2**52 to 2**52 ms since the epoch, got {now_ms}")
