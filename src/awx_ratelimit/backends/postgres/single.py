"""The functions that decide one claim in one UPDATE: text of SQL, for each number of rates.

Most calls carry one claim of a plan with a few continuous rates and perhaps slots, all enforced. If it fits and nothing
is rare, one UPDATE decides it. Otherwise these functions call ``acquire_plain``.

PL/pgSQL evaluates an expression for the first time in a transaction at the cost of several later evaluations. So the
expressions are few, and what depends on a plan is a literal in the text of the statement: a parameter costs the client
nearly a microsecond.
"""

from typing import Final

#: Plans with more rates are decided by ``acquire_plain``.
MAX_RATES: Final = 3
#: In a schema that others may write, a function of arrays of bigint would be preferred to that of PostgreSQL, which
#: takes any arrays. All other functions have a `search_path`, which would cost each of these calls 7 us.
_JOIN: Final = "OPERATOR(pg_catalog.||)"
_SECONDS: Final = "pg_catalog.date_part('epoch', pg_catalog.clock_timestamp())"
_NOW_MS: Final = f"pg_catalog.floor({_SECONDS} * 1000::double precision)::bigint"


def function_name(rates: int, *, slots: bool, replaces: bool) -> str:
    """The function for a plan with this number of rates.

    `replaces`: the claim takes over the place of a lease that is released.
    """
    kind = "next" if replaces else "slot" if slots else "rates"
    return f"acquire_{kind}_{rates}_1"


#: For each of these functions: the rates, and whether it knows `slots` and `replaces` a lease.
_KINDS: Final = [
    (rates, slots, replaces)
    for rates in range(MAX_RATES + 1)
    for slots, replaces in ((True, True), (True, False), (False, False))
    if slots or rates
]


def single_functions() -> str:
    """The statements that create all these functions, with an at sign before each name."""
    return "\n".join(_function(rates, slots=slots, replaces=replaces) for rates, slots, replaces in _KINDS)


def _function(rates: int, *, slots: bool, replaces: bool) -> str:
    numbers = range(1, rates + 1)
    own = ["gone bigint[]", "sequence bigint"] if replaces else ["lease bigint[]"]
    # What drains in a ms, the charge, the largest debt that leaves room, and a time in which the largest debt drains.
    each = [f"drain_{j} bigint, charge_{j} bigint, room_{j} bigint, full_{j} bigint" for j in numbers]
    of_slots = ["slots bigint, ttl_ms bigint"] if slots else []
    parameters = ["key bytea", *own, "call_ms bigint", *of_slots, *each, "charges bigint[]", "limits text"]
    owner, asked = ("gone", "1, 1, gone[3], sequence, 1") if replaces else ("lease", "1, 0, lease[3], 1")
    changes, conditions = changes_and_conditions(rates, slots=slots, replaces=replaces)
    return f"""
CREATE OR REPLACE FUNCTION @{function_name(rates, slots=slots, replaces=replaces)}(
  {", ".join(parameters)}
) RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
  now_ms bigint := coalesce(call_ms, {_NOW_MS});
  answer bigint[];
BEGIN
  UPDATE @records AS r SET
    {changes}
  WHERE r.subject = key AND r.scope = ''
    AND {conditions}
  RETURNING ARRAY[now_ms, 0, 0, pg_catalog.cardinality(r.leases) / 6] {_JOIN} r.levels INTO answer;
  IF answer IS NOT NULL THEN RETURN answer; END IF;
  RETURN @acquire_plain_1(
    call_ms, {owner}[1], {owner}[2], ARRAY[key], ARRAY[''], ARRAY[{asked}], charges, ARRAY[limits]);
END
$$;
"""  # noqa: S608  # only names and numbers of this module


def changes_and_conditions(rates: int, *, slots: bool, replaces: bool) -> tuple[str, str]:
    """The changes of an UPDATE of the record `r` that charges a claim, and the conditions on which it fits."""
    changes = [*_charges(rates, slots=slots, replaces=replaces), *(_leases(replaces=replaces) if slots else [])]
    conditions = [*_conditions(rates), *(_room(replaces=replaces) if slots else [])]
    return ", ".join(changes), " AND ".join(conditions)


def _drained(j: int) -> str:
    return f"r.levels[{2 * j - 1}] - drain_{j} * least(now_ms - r.levels[{2 * j}], full_{j})"


def _charges(rates: int, *, slots: bool, replaces: bool) -> list[str]:
    numbers = range(1, rates + 1)
    levels = ", ".join(f"greatest(0, {_drained(j)}) + charge_{j}, now_ms" for j in numbers)
    times = [f"(r.levels[{2 * j - 1}] + charge_{j}) / drain_{j}" for j in numbers] + (["ttl_ms"] if slots else [])
    kept = "r.keep_ms" if replaces else "CASE WHEN pg_catalog.cardinality(r.leases) = 0 THEN 0 ELSE r.keep_ms END"
    return [
        *([f"levels = ARRAY[{levels}]"] if rates else []),
        f"keep_ms = greatest({kept}, now_ms + 60001 + greatest({', '.join(times)}))",
    ]


def _leases(*, replaces: bool) -> list[str]:
    at = "pg_catalog.array_position(r.leases, gone[3])"
    leases = (
        f"leases[{at} : {at} + 3] = ARRAY[sequence, now_ms + ttl_ms, ttl_ms, 0]"
        if replaces
        else f"leases = r.leases {_JOIN} lease {_JOIN} ARRAY[now_ms + ttl_ms, ttl_ms, 0]"
    )
    return [leases, "lapse_ms = least(r.lapse_ms, now_ms + ttl_ms)", "renewed_ms = now_ms"]


def _conditions(rates: int) -> list[str]:
    # Where another call has written the record at a later time, acquire_plain decides, under the lock.
    numbers = range(1, rates + 1)
    return [
        f"r.head = limits AND pg_catalog.cardinality(r.levels) = {2 * rates} AND r.opened = 0",
        "r.lapse_ms > now_ms AND r.renewed_ms <= now_ms",
        *(f"r.levels[{2 * j}] <= now_ms" for j in numbers),
        *(f"{_drained(j)} <= room_{j}" for j in numbers),
    ]


def _room(*, replaces: bool) -> list[str]:
    if not replaces:
        return ["pg_catalog.cardinality(r.leases) < 6 * slots", "pg_catalog.array_position(r.leases, lease[3]) IS NULL"]
    at = "pg_catalog.array_position(r.leases, gone[3])"
    # Were the first such number not that of a lease, the two before it would not be its owner.
    return [
        "pg_catalog.cardinality(r.leases) <= 6 * slots",
        f"r.leases[{at} - 2 : {at}] OPERATOR(pg_catalog.=) gone",
        "pg_catalog.array_position(r.leases, sequence) IS NULL",
    ]
