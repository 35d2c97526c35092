"""The functions that decide many claims in a few UPDATEs: text of SQL, for each number of rates.

Most calls of many claims have one claim of each record, and perhaps the release of one lease, of plans that `single`
knows. Each UPDATE decides all of one kind that fit and are not rare. ``acquire_plain`` decides the others, one record
after the other. All records are locked before, in their order. If another transaction keeps one locked for longer than
lock_timeout, its claims fail, and the others are decided.
"""

from typing import Final

from awx_ratelimit.backends.postgres.single import MAX_RATES, changes_and_conditions

#: The mark of their answers: no time is that early.
MANY: Final = -(2**63)
#: The numbers of a plan and a cost in `terms`: slots, ttl_ms, and for each rate those of `single`.
_OF_RATE: Final = ("drain", "charge", "room", "full")


def many_name(rates: int) -> str:
    """The function for claims of plans with this number of rates."""
    return f"acquire_many_{rates}_1"


def many_functions() -> str:
    """The statements that create all these functions, with an at sign before each name."""
    return "\n".join(map(_function, range(MAX_RATES + 1)))


def _function(rates: int) -> str:
    kinds = (("next", True, True), ("slot", True, False), *((("rates", False, False),) if rates else ()))
    updates = "".join(_update(rates, kind, slots=slots, replaces=replaces) for kind, slots, replaces in kinds)
    return f"""
-- subjects, scopes, wanted  as in @acquire_1
-- tags      for each record: what its part of the answer begins with
-- of_...    next, slot, rates (claims, which also release a lease, take a slot, or take none), and gone (leases that
--           are released without a claim). For each: number of the record, sequence, sequence of the released lease,
--           last position before its numbers in `terms`, number of its head
-- terms     slots, ttl_ms, and for each rate: what drains in a ms, the charge, the largest debt that leaves room, and a
--           time in which any debt drains
-- asked, charges, heads     as in @acquire_plain_1
-- answer    a mark, and for each record, in any order: its tag, and the answer of @acquire_plain_1. Nothing for records
--           without claims.
CREATE OR REPLACE FUNCTION @{many_name(rates)}(
  call_ms bigint, owner_1 bigint, owner_2 bigint, subjects bytea[], scopes text[], wanted boolean[], tags bigint[],
  of_next bigint[], of_slot bigint[], of_rates bigint[], of_gone bigint[], terms bigint[], asked bigint[],
  charges bigint[], heads text[]
) RETURNS bigint[] LANGUAGE plpgsql @planned AS $$
#variable_conflict use_column
DECLARE
  now_ms bigint; answer bigint[] := ARRAY['{MANY}'::bigint]; part record;
  is_done boolean[] := '{{}}'; is_busy boolean[] := '{{}}';
  inserted integer;
  at integer := 1; end_at integer;
BEGIN
  -- The locks are taken in the subtransaction that writes the records: otherwise a record would have two lockers.
  BEGIN
    inserted := @present_1(subjects, scopes, wanted);
    subjects := @lock_1(subjects, scopes, wanted);
    -- Later than every time at which another call has written these records.
    now_ms := @now_1(call_ms);
{updates}
    IF cardinality(of_gone) > 0 THEN
      FOR part IN
        UPDATE @records AS r SET leases = r.leases[: q.at - 3] || r.leases[q.at + 4 :] FROM (
          SELECT of_gone[g] AS number, subjects[of_gone[g]] AS key, scopes[of_gone[g]] AS key_scope,
            of_gone[g + 2] AS sequence
          FROM generate_series(1, cardinality(of_gone), 5) AS g OFFSET 0
        ) AS a, LATERAL (
          SELECT x.ctid AS id, array_position(x.leases, a.sequence) AS at FROM @records AS x
          WHERE x.subject = a.key AND x.scope = a.key_scope OFFSET 0
        ) AS q
        WHERE r.ctid = q.id AND r.leases[q.at - 2 : q.at] = ARRAY[owner_1, owner_2, a.sequence]
        RETURNING a.number
      LOOP
        is_done[part.number] := true;
      END LOOP;
    END IF;
  EXCEPTION
    WHEN lock_not_available THEN
      SELECT l.keys, l.busy, l.inserted INTO subjects, is_busy, inserted
        FROM @lock_free_1(subjects, scopes, wanted) AS l;
      now_ms := @now_1(call_ms);
    WHEN @corruption THEN
      answer := ARRAY['{MANY}'::bigint]; is_done := '{{}}';
      inserted := @present_1(subjects, scopes, wanted);
      subjects := @lock_1(subjects, scopes, wanted);
      now_ms := @now_1(call_ms);
  END;
  FOR i IN 1 .. cardinality(subjects) LOOP
    end_at := at + 1 + 2 * asked[at]::integer + asked[at + 1]::integer;
    IF is_done[i] IS NULL THEN
      IF asked[at] > 0 THEN answer := answer || tags[i]; END IF;
      IF is_busy[i] THEN
        answer := answer || @failed_1(asked[at], -5);
      ELSE
        answer := answer || @acquire_apart_1(
          now_ms, owner_1, owner_2, subjects[i : i], scopes[i : i], asked[at : end_at], charges, heads);
      END IF;
    END IF;
    at := end_at + 1;
  END LOOP;
  IF inserted > 0 THEN
    DELETE FROM @records AS r USING unnest(subjects, scopes) AS u (subject, scope)
      WHERE r.subject = u.subject AND r.scope = u.scope AND r.head = '' AND r.kept = '{{}}' AND r.leases = '{{}}';
    IF random() * 16 < inserted THEN PERFORM @sweep_1(now_ms); END IF;
  END IF;
  RETURN answer;
END
$$;
"""  # noqa: S608  # only names and numbers of this module


def _update(rates: int, kind: str, *, slots: bool, replaces: bool) -> str:
    changes, conditions = changes_and_conditions(rates, slots=slots, replaces=replaces)
    names = ["slots", "ttl_ms", *(f"{name}_{j}" for j in range(1, rates + 1) for name in _OF_RATE)]
    terms = ", ".join(f"terms[of_{kind}[g + 3] + {at}] AS {name}" for at, name in enumerate(names, 1))
    return f"""
    IF cardinality(of_{kind}) > 0 THEN
      FOR part IN
        UPDATE @records AS r SET {changes} FROM (
          SELECT of_{kind}[g] AS number, subjects[of_{kind}[g]] AS key, scopes[of_{kind}[g]] AS key_scope,
            of_{kind}[g + 1] AS sequence, ARRAY[owner_1, owner_2, of_{kind}[g + 1]] AS lease,
            ARRAY[owner_1, owner_2, of_{kind}[g + 2]] AS gone, now_ms AS now_ms, heads[of_{kind}[g + 4]] AS limits,
            {terms}
          FROM generate_series(1, cardinality(of_{kind}), 5) AS g OFFSET 0
        ) AS q, LATERAL (
          SELECT x.ctid AS id FROM @records AS x WHERE x.subject = q.key AND x.scope = q.key_scope OFFSET 0
        ) AS t
        WHERE r.ctid = t.id AND {conditions}
        RETURNING q.number AS number,
          ARRAY[tags[q.number], now_ms, 0, 0, cardinality(r.leases) / 6] || r.levels AS decision
      LOOP
        answer := answer || part.decision;
        is_done[part.number] := true;
      END LOOP;
    END IF;
"""  # noqa: S608  # only names and numbers of this module
