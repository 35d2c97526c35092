-- Functions that the others share. See tables.sql for units and layouts.

-- The time of a call: its own, or the server's.
CREATE OR REPLACE FUNCTION @now_1(call_ms bigint) RETURNS bigint LANGUAGE sql VOLATILE AS $$
  SELECT coalesce(call_ms, floor(date_part('epoch', clock_timestamp()) * 1000)::bigint)
$$;

-- The end of the equal period that contains `at_ms`.
CREATE OR REPLACE FUNCTION @period_end_1(at_ms bigint, period_ms bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
  SELECT at_ms - ((at_ms % period_ms) + period_ms) % period_ms + period_ms
$$;

-- The position of the start of the period that contains `ms`, of four periods from `place` on; null if none does.
CREATE OR REPLACE FUNCTION @period_at_1(charges bigint[], place integer, ms bigint) RETURNS integer LANGUAGE sql IMMUTABLE AS $$
  SELECT p FROM generate_series(place, place + 6, 2) AS p WHERE charges[p] <= ms AND ms < charges[p + 1] LIMIT 1
$$;

-- A debt that was counted with `unit` and `capacity`, counted with others: rounded up, and at most the new capacity. It is
-- unchanged, even beyond the capacity, where both are counted equally.
CREATE OR REPLACE FUNCTION @converted_1(debt bigint, unit bigint, capacity bigint, new_unit bigint, new_capacity bigint)
RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
  SELECT CASE WHEN unit = new_unit AND capacity = new_capacity THEN debt
    ELSE least(div(debt::numeric * new_unit + unit - 1, unit), new_capacity)::bigint END
$$;

-- How many numbers the levels of a head are.
CREATE OR REPLACE FUNCTION @numbers_1(head text) RETURNS integer LANGUAGE sql IMMUTABLE AS $$
  SELECT 2 * coalesce(cardinality(string_to_array(nullif(head, ''), E'\n')), 0)
$$;

-- Whether the parts of a record do not fit together, or have no value.
CREATE OR REPLACE FUNCTION @is_corrupt_1(r @records) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
  SELECT cardinality(r.levels) <> @numbers_1(r.head) OR array_position(r.levels, NULL) IS NOT NULL
    OR cardinality(r.kept_levels) <> 3 * cardinality(r.kept) OR array_position(r.kept_levels, NULL) IS NOT NULL
    OR array_position(r.kept, NULL) IS NOT NULL
    OR cardinality(r.leases) % 6 <> 0 OR array_position(r.leases, NULL) IS NOT NULL
$$;

-- Rows of limits, from lines of text.
CREATE OR REPLACE FUNCTION @parsed_1(lines text[])
RETURNS TABLE (
  place bigint, line text, name text, unit bigint, capacity bigint, drain bigint, period_ms bigint, calendar text
)
LANGUAGE sql IMMUTABLE AS $$
  SELECT l.place, l.line, f[1], f[2]::bigint, f[3]::bigint, f[4]::bigint, f[5]::bigint, f[6]
  FROM unnest(lines) WITH ORDINALITY AS l (line, place), string_to_array(l.line, E'\t') AS f
$$;

-- All limits of a record, those of the last charge first.
CREATE OR REPLACE FUNCTION @limits_1(head text, levels bigint[], keep_ms bigint, kept text[], kept_levels bigint[])
RETURNS TABLE (
  place bigint, front boolean, line text, name text, unit bigint, capacity bigint, drain bigint, period_ms bigint,
  calendar text, debt bigint, at_ms bigint, keep_ms bigint
) LANGUAGE sql IMMUTABLE AS $$
  SELECT p.place, true, p.line, p.name, p.unit, p.capacity, p.drain, p.period_ms, p.calendar,
    levels[2 * p.place - 1], levels[2 * p.place], keep_ms
  FROM @parsed_1(string_to_array(nullif(head, ''), E'\n')) AS p
  UNION ALL
  SELECT 1000 + p.place, false, p.line, p.name, p.unit, p.capacity, p.drain, p.period_ms, p.calendar,
    kept_levels[3 * p.place - 2], kept_levels[3 * p.place - 1], kept_levels[3 * p.place]
  FROM @parsed_1(kept) AS p
  ORDER BY 1
$$;

-- The same limits, first those of `new_head` in its units. The others are kept until they have drained. `was` and
-- `was_levels` are the known lines and levels of the limits in `new_head`, or null; `changed` are the names of those that
-- were counted otherwise.
CREATE OR REPLACE FUNCTION @relaid_1(
  r @records, new_head text, now_ms bigint,
  OUT new_levels bigint[], OUT new_kept text[], OUT new_kept_levels bigint[], OUT was text[], OUT was_levels bigint[],
  OUT changed text[]
) LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  wanted record;
  known record;
  others bigint := 0;
BEGIN
  new_levels := '{}'; new_kept := '{}'; new_kept_levels := '{}'; was := '{}'; was_levels := '{}'; changed := '{}';
  FOR wanted IN
    SELECT p.*, k.line AS was_line, k.unit AS was_unit, k.capacity AS was_capacity, k.debt, k.at_ms
    FROM @parsed_1(string_to_array(nullif(new_head, ''), E'\n')) AS p
    LEFT JOIN @limits_1(r.head, r.levels, r.keep_ms, r.kept, r.kept_levels) AS k USING (name)
    ORDER BY p.place
  LOOP
    was := was || wanted.was_line;
    was_levels := was_levels || ARRAY[wanted.debt, wanted.at_ms];
    IF wanted.was_line IS NULL THEN
      new_levels := new_levels || ARRAY[0, 0]::bigint[];
    ELSE
      new_levels := new_levels || ARRAY[
        @converted_1(wanted.debt, wanted.was_unit, wanted.was_capacity, wanted.unit, wanted.capacity), wanted.at_ms];
      IF (wanted.unit, wanted.capacity) IS DISTINCT FROM (wanted.was_unit, wanted.was_capacity) THEN
        changed := changed || wanted.name;
      END IF;
    END IF;
  END LOOP;
  FOR known IN
    SELECT k.*, count(*) OVER () AS others FROM @limits_1(r.head, r.levels, r.keep_ms, r.kept, r.kept_levels) AS k
    WHERE k.name NOT IN (SELECT p.name FROM @parsed_1(string_to_array(nullif(new_head, ''), E'\n')) AS p)
    ORDER BY k.place
  LOOP
    -- With more limits, those that have drained are dropped.
    IF (known.others <= 8 OR known.keep_ms > now_ms) AND cardinality(new_kept) < 200 THEN
      new_kept := new_kept || known.line;
      new_kept_levels := new_kept_levels || ARRAY[known.debt, known.at_ms, known.keep_ms];
    END IF;
  END LOOP;
END
$$;

-- A record after a decision that charged nothing. The limits of `head` whose number is in `rebased` drain from now on,
-- and all of them are kept until `until_ms`, because the answer has reported their waits.
CREATE OR REPLACE FUNCTION @uncharged_1(r @records, new_head text, rebased integer[], now_ms bigint, until_ms bigint)
RETURNS @records LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  each record;
BEGIN
  FOR each IN
    SELECT k.place, k.front, k.keep_ms, p.place AS number
    FROM @limits_1(r.head, r.levels, r.keep_ms, r.kept, r.kept_levels) AS k
    JOIN @parsed_1(string_to_array(nullif(new_head, ''), E'\n')) AS p USING (name)
  LOOP
    IF each.front THEN
      IF each.number = ANY (rebased) THEN r.levels[2 * each.place] := now_ms; END IF;
      r.keep_ms := greatest(r.keep_ms, until_ms);
    ELSE
      IF each.number = ANY (rebased) THEN r.kept_levels[3 * (each.place - 1000) - 1] := now_ms; END IF;
      r.kept_levels[3 * (each.place - 1000)] := greatest(each.keep_ms, until_ms);
    END IF;
  END LOOP;
  RETURN r;
END
$$;

-- The record without the leases that have lapsed or ended. A lease with more time left than its ttl was renewed by a clock
-- that was ahead: its ttl counts from now.
CREATE OR REPLACE FUNCTION @current_leases_1(r @records, now_ms bigint) RETURNS @records LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  found bigint[] := '{}';
  expires bigint;
BEGIN
  r.lapse_ms := 9223372036854775807;
  r.renewed_ms := least(r.renewed_ms, now_ms);
  FOR i IN 1 .. cardinality(r.leases) BY 6 LOOP
    expires := least(r.leases[i + 3], now_ms + r.leases[i + 4]);
    IF expires > now_ms AND (r.leases[i + 5] = 0 OR r.leases[i + 5] > now_ms) THEN
      found := found || r.leases[i : i + 2] || expires || r.leases[i + 4 : i + 5];
      r.lapse_ms := least(r.lapse_ms, expires, nullif(r.leases[i + 5], 0));
    END IF;
  END LOOP;
  r.leases := found;
  RETURN r;
END
$$;

-- The position of a lease in the leases of a record; 0 if it is not there.
CREATE OR REPLACE FUNCTION @lease_at_1(leases bigint[], owner_1 bigint, owner_2 bigint, sequence bigint)
RETURNS integer LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  FOR i IN 1 .. cardinality(leases) BY 6 LOOP
    IF leases[i + 2] = sequence AND leases[i] = owner_1 AND leases[i + 1] = owner_2 THEN RETURN i; END IF;
  END LOOP;
  RETURN 0;
END
$$;

-- A locked record. A new one is inserted if it is `wanted`, and is null if not. Only for calls of a single record.
CREATE OR REPLACE FUNCTION @locked_1(key bytea, key_scope text, wanted boolean) RETURNS @records LANGUAGE plpgsql AS $$
DECLARE
  r @records;
BEGIN
  LOOP
    SELECT * INTO r FROM @records WHERE subject = key AND scope = key_scope FOR NO KEY UPDATE;
    IF FOUND OR NOT wanted THEN RETURN r; END IF;
    INSERT INTO @records VALUES (key, key_scope, 0, 9223372036854775807, 0, 0, '', '{}', '{}', '{}', '{}')
      ON CONFLICT DO NOTHING RETURNING * INTO r;
    IF FOUND THEN RETURN r; END IF;
  END LOOP;
END
$$;

-- `@planned` and the shape of their queries leave the planner one way: an index scan for each record. Its choice is kept,
-- and could be made while the table is nearly empty.

-- Inserts the wanted records that are missing, in order; returns how many. Every call of several records begins with this,
-- and then locks all of them in order. So a call that waits for a new record has no lock that the other one could wait
-- for, and calls that wait for locks never wait in a circle. After this they lock nothing else.
CREATE OR REPLACE FUNCTION @present_1(subjects bytea[], scopes text[], wanted boolean[]) RETURNS integer LANGUAGE plpgsql
@planned AS $$
DECLARE
  inserted integer;
BEGIN
  INSERT INTO @records
    SELECT u.subject, u.scope, 0, 9223372036854775807, 0, 0, '', '{}', '{}', '{}', '{}'
    FROM unnest(subjects, scopes, wanted) WITH ORDINALITY AS u (subject, scope, is_wanted, number)
    WHERE u.is_wanted AND (SELECT true FROM @records AS r WHERE r.subject = u.subject AND r.scope = u.scope) IS NULL
    ORDER BY u.number ON CONFLICT DO NOTHING;
  GET DIAGNOSTICS inserted = ROW_COUNT;
  RETURN inserted;
END
$$;

-- Locks records in order. Returns `subjects` with null for records that do not exist: another call may create them now, and
-- this one must not wait for it later. If a wanted one has gone since it was inserted, the whole call must be sent again.
CREATE OR REPLACE FUNCTION @lock_1(subjects bytea[], scopes text[], wanted boolean[]) RETURNS bytea[] LANGUAGE plpgsql
@planned AS $$
DECLARE
  found bytea[];
BEGIN
  found := ARRAY(
    SELECT l.subject FROM unnest(subjects, scopes) AS u (subject, scope) LEFT JOIN LATERAL (
      SELECT r.subject FROM @records AS r WHERE r.subject = u.subject AND r.scope = u.scope FOR NO KEY UPDATE) AS l ON true);
  IF array_position(found, NULL) IS NOT NULL
    AND EXISTS (SELECT FROM unnest(found, wanted) AS u (subject, is_wanted) WHERE u.is_wanted AND u.subject IS NULL) THEN
    RAISE serialization_failure;
  END IF;
  RETURN found;
END
$$;

-- `lock_1` without waiting, for a call that has waited for too long: returns null also for the records that another
-- transaction keeps locked, which are `busy`.
CREATE OR REPLACE FUNCTION @lock_free_1(
  subjects bytea[], scopes text[], wanted boolean[], OUT keys bytea[], OUT busy boolean[], OUT inserted integer
) LANGUAGE plpgsql @planned AS $$
BEGIN
  BEGIN
    inserted := @present_1(subjects, scopes, wanted);
  EXCEPTION WHEN lock_not_available THEN
    -- Another transaction has inserted one, and has not ended.
    inserted := 0;
  END;
  keys := ARRAY(
    SELECT l.subject FROM unnest(subjects, scopes) AS u (subject, scope) LEFT JOIN LATERAL (
      SELECT r.subject FROM @records AS r WHERE r.subject = u.subject AND r.scope = u.scope
      FOR NO KEY UPDATE SKIP LOCKED) AS l ON true);
  -- What is not wanted need not exist.
  busy := ARRAY(
    SELECT u.key IS NULL AND (u.is_wanted OR EXISTS (
      SELECT FROM @records AS r WHERE r.subject = u.subject AND r.scope = u.scope))
    FROM unnest(subjects, scopes, wanted, keys) AS u (subject, scope, is_wanted, key));
END
$$;

-- The answer to the claims of a record that fail: see @acquire_plain_1.
CREATE OR REPLACE FUNCTION @failed_1(claims bigint, code bigint) RETURNS bigint[] LANGUAGE sql IMMUTABLE AS $$
  SELECT ARRAY(SELECT CASE n % 2 WHEN 0 THEN code ELSE 0 END FROM generate_series(1, 2 * claims) AS n)
$$;

-- All of these records, locked. Those that are missing are inserted.
CREATE OR REPLACE FUNCTION @all_locked_1(subjects bytea[], scopes text[]) RETURNS @records[] LANGUAGE plpgsql AS $$
DECLARE
  wanted boolean[] := array_fill(true, ARRAY[cardinality(subjects)]);
  r @records;
  found @records[] := '{}';
BEGIN
  PERFORM @present_1(subjects, scopes, wanted);
  PERFORM @lock_1(subjects, scopes, wanted);
  FOR i IN 1 .. cardinality(subjects) LOOP
    SELECT * INTO r FROM @records WHERE subject = subjects[i] AND scope = scopes[i];
    found[i] := r;
  END LOOP;
  RETURN found;
END
$$;

-- Writes a record, or removes it if nothing is in it.
CREATE OR REPLACE FUNCTION @write_1(r @records) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF r.head = '' AND cardinality(r.kept) = 0 AND cardinality(r.leases) = 0 THEN
    DELETE FROM @records AS x WHERE x.subject = r.subject AND x.scope = r.scope;
  ELSE
    UPDATE @records AS x SET keep_ms = r.keep_ms, lapse_ms = r.lapse_ms, renewed_ms = r.renewed_ms, opened = r.opened,
      head = r.head, levels = r.levels, kept = r.kept, kept_levels = r.kept_levels, leases = r.leases
    WHERE x.subject = r.subject AND x.scope = r.scope;
  END IF;
END
$$;

-- Removes the records and notes that are over, of a few at a random place. Never waits.
CREATE OR REPLACE FUNCTION @sweep_1(now_ms bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  over record;
BEGIN
  FOR over IN
    SELECT x.subject, x.scope, x.keep_ms, x.kept_levels, x.opened FROM @records AS x
    WHERE x.subject > decode(md5(random()::text), 'hex') ORDER BY x.subject, x.scope LIMIT 64
    FOR UPDATE SKIP LOCKED
  LOOP
    CONTINUE WHEN over.keep_ms >= now_ms
      OR EXISTS (SELECT FROM generate_series(3, cardinality(over.kept_levels), 3) AS i WHERE over.kept_levels[i] >= now_ms);
    DELETE FROM @open_claims AS x WHERE x.subject = over.subject AND x.scope = over.scope;
    DELETE FROM @steps AS x WHERE x.subject = over.subject AND x.scope = over.scope;
    DELETE FROM @records AS x WHERE x.subject = over.subject AND x.scope = over.scope;
  END LOOP;
  DELETE FROM @notes AS x WHERE x.ctid IN (
    SELECT n.ctid FROM @notes AS n WHERE n.until_ms < now_ms LIMIT 64 FOR UPDATE SKIP LOCKED);
END
$$;
