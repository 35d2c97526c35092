-- What acquire.sql does, for claims of one record each: nearly all calls. It reads and writes each record once, and gives
-- what is rare to acquire.sql: another plan than that of the last charge, open declared claims, lapsed leases, and clocks
-- that were set back.
--
-- subjects, scopes  the records, in ascending order
-- asked     for each record: claims, releases, the sequence of each lease to release, and for each claim: sequence (0 is a
--           peek), the position of its charge
-- charges   as in acquire.sql
-- answer    for each claim, in this order: the time, 0 or an error code, exceeded limits as bits, held, and for each rate:
--           debt, at_ms. A claim with an error code has nothing more.
CREATE OR REPLACE FUNCTION @acquire_plain_1(
  call_ms bigint, owner_1 bigint, owner_2 bigint, subjects bytea[], scopes text[], asked bigint[], charges bigint[],
  heads text[]
) RETURNS bigint[] LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
  never CONSTANT bigint := 9223372036854775807;
  now_ms bigint; answer bigint[] := '{}'; answer_was bigint[];
  at integer := 1; from_at integer; last_at integer; releases_at integer; claims_at integer;
  row_id tid; row_head text; row_opened integer; levels bigint[]; leases bigint[];
  keep_ms bigint; lapse_ms bigint; renewed_ms bigint;
  is_new boolean; is_empty boolean; is_rare boolean; changed boolean; refused boolean;
  c integer; p integer; step integer; rates integer; sequence bigint; mode bigint; charged bigint[]; uncharged bigint[];
  debt bigint; since_ms bigint; unit bigint; drain bigint; tokens bigint; until_ms bigint;
  exceeded bigint; bit bigint; held bigint;
  inserted integer := 0;
BEGIN
  FOR i IN 1 .. cardinality(subjects) LOOP
    from_at := at;
    releases_at := at + 2; claims_at := releases_at + asked[at + 1]; last_at := claims_at + 2 * asked[at] - 1;
    answer_was := answer;
    SELECT r.ctid, r.head, r.opened, r.levels, r.leases, r.keep_ms, r.lapse_ms, r.renewed_ms, r.head = '' AND r.kept = '{}'
      INTO row_id, row_head, row_opened, levels, leases, keep_ms, lapse_ms, renewed_ms, is_empty
      FROM @records AS r WHERE r.subject = subjects[i] AND r.scope = scopes[i] FOR NO KEY UPDATE;
    is_new := NOT FOUND; is_empty := coalesce(is_empty, false);
    -- Later than the time at which another call has written this record.
    now_ms := coalesce(call_ms, floor(date_part('epoch', clock_timestamp()) * 1000)::bigint);
    changed := false;
    IF is_new THEN
      row_head := NULL; row_opened := 0; levels := NULL; leases := '{}';
      keep_ms := 0; lapse_ms := never; renewed_ms := now_ms;
    END IF;
    is_rare := row_opened > 0 OR lapse_ms <= now_ms OR renewed_ms > now_ms;
    at := releases_at;
    WHILE at < claims_at AND NOT is_new AND NOT is_rare LOOP
      p := array_position(leases, asked[at]);
      IF p % 6 <> 3 OR leases[p - 2] <> owner_1 OR leases[p - 1] <> owner_2 THEN
        -- The number was another one.
        p := nullif(@lease_at_1(leases, owner_1, owner_2, asked[at]) + 2, 2);
      END IF;
      IF p IS NOT NULL THEN
        leases := leases[: p - 3] || leases[p + 4 :];
        changed := true;
      END IF;
      at := at + 1;
    END LOOP;
    at := claims_at;
    WHILE at < last_at AND NOT is_rare LOOP
      sequence := asked[at]; c := asked[at + 1];
      at := at + 2;
      rates := charges[c + 1]; mode := charges[c + 2];
      IF is_new AND row_head IS NULL OR is_empty AND row_head = '' AND cardinality(levels) = 0 THEN
        row_head := heads[charges[c]];
        levels := array_fill(0::bigint, ARRAY[2 * rates]);
      END IF;
      IF row_head <> heads[charges[c]] OR cardinality(levels) <> 2 * rates OR array_position(levels, NULL) IS NOT NULL
        OR cardinality(leases) % 6 <> 0 THEN
        is_rare := true;
        EXIT;
      END IF;
      -- For each rate: the debt now, and with the charge if it fits.
      refused := sequence = 0; exceeded := 0; bit := 1; step := c + 6; until_ms := now_ms; charged := '{}'; uncharged := '{}';
      FOR j IN 1 .. rates LOOP
        debt := levels[j + j - 1]; since_ms := levels[j + j]; unit := charges[step]; drain := charges[step + 1];
        tokens := charges[step + 4];
        IF debt > 0 THEN
          IF since_ms > now_ms THEN
            is_rare := true;
            EXIT;
          END IF;
          -- No product is larger than the debt.
          debt := CASE WHEN now_ms - since_ms > debt / nullif(drain, 0) THEN 0
            WHEN drain > 0 THEN debt - drain * (now_ms - since_ms)
            WHEN now_ms >= @period_end_1(since_ms, charges[step + 3]) THEN 0 ELSE debt END;
        ELSE
          debt := 0;
        END IF;
        uncharged := uncharged || debt || now_ms;
        -- The quotient instead of a product that may be too large. A debt beyond the capacity has no room.
        IF tokens > (charges[step + 2] - debt) / unit AND tokens > 0 THEN
          exceeded := exceeded + bit;
          refused := refused OR charges[step + 5] = 1;
        ELSE
          debt := debt + unit * tokens;
        END IF;
        charged := charged || debt || now_ms;
        until_ms := greatest(until_ms,
          CASE WHEN drain > 0 THEN now_ms + debt / drain + 1 ELSE @period_end_1(now_ms, charges[step + 3]) END);
        step := step + 14; bit := bit + bit;
      END LOOP;
      EXIT WHEN is_rare;
      held := cardinality(leases) / 6;
      IF mode > 0 THEN
        IF sequence <> 0 AND @lease_at_1(leases, owner_1, owner_2, sequence) > 0 THEN
          -- A lease that exists already is a retry after a lost reply.
          is_rare := true;
          EXIT;
        ELSIF held >= charges[c + 4] THEN
          exceeded := exceeded + bit;
          refused := refused OR mode = 1;
        ELSIF NOT refused THEN
          held := held + 1;
          debt := CASE WHEN charges[c + 5] > 0 THEN now_ms + charges[c + 5] ELSE 0 END;
          leases := leases || ARRAY[owner_1, owner_2, sequence, now_ms + charges[c + 3], charges[c + 3], debt];
          until_ms := greatest(until_ms, now_ms + charges[c + 3]);
          lapse_ms := least(lapse_ms, now_ms + charges[c + 3], nullif(debt, 0));
          renewed_ms := now_ms;
        END IF;
      END IF;
      IF refused THEN
        answer := answer || now_ms || 0::bigint || exceeded || held || uncharged;
      ELSE
        answer := answer || now_ms || 0::bigint || exceeded || held || charged;
        levels := charged; changed := true;
        IF keep_ms > until_ms + 86400000 THEN
          -- It came from a clock that was ahead.
          keep_ms := coalesce((SELECT max(leases[l]) FROM generate_series(4, cardinality(leases), 6) AS l), 0);
        END IF;
        keep_ms := greatest(until_ms + 60000, CASE WHEN cardinality(leases) > 0 THEN keep_ms ELSE 0 END);
      END IF;
    END LOOP;

    IF NOT is_rare AND changed AND is_new THEN
      INSERT INTO @records
        VALUES (subjects[i], scopes[i], keep_ms, lapse_ms, renewed_ms, 0, row_head, levels, '{}', '{}', leases)
        ON CONFLICT DO NOTHING;
      -- Another call has made it just now.
      is_rare := NOT FOUND;
      inserted := inserted + 1;
    ELSIF NOT is_rare AND changed THEN
      UPDATE @records AS r
        SET head = row_head, levels = levels, leases = leases, keep_ms = keep_ms, lapse_ms = lapse_ms, renewed_ms = renewed_ms
        WHERE r.ctid = row_id;
    END IF;
    IF is_rare THEN
      answer := answer_was || @acquire_rare_1(
        call_ms, owner_1, owner_2, subjects[i], scopes[i], asked[releases_at : claims_at - 1],
        asked[claims_at : last_at], charges, heads);
    END IF;
    at := last_at + 1;
  END LOOP;
  IF inserted > 0 THEN
    IF random() * 16 < inserted THEN PERFORM @sweep_1(now_ms); END IF;
  END IF;
  RETURN answer;
END
$$;

-- Gives the claims of one record to acquire.sql. Its parameters and its answer are those of @acquire_plain_1.
CREATE OR REPLACE FUNCTION @acquire_rare_1(
  call_ms bigint, owner_1 bigint, owner_2 bigint, subject bytea, scope text, released bigint[], asked bigint[],
  charges bigint[], heads text[]
) RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
  gone bigint[] := '{}';
  claims bigint[] := '{}';
  wanted boolean := false;
  found bigint[];
  answer bigint[] := '{}';
  at integer := 2; size integer;
BEGIN
  FOR r IN 1 .. cardinality(released) LOOP gone := gone || ARRAY[1, released[r]]; END LOOP;
  FOR a IN 1 .. cardinality(asked) BY 2 LOOP
    claims := claims || ARRAY[asked[a], 0, 1, 1, asked[a + 1]];
    wanted := wanted OR asked[a] <> 0;
  END LOOP;
  found := @acquire_1(call_ms, owner_1, owner_2, ARRAY[subject], ARRAY[scope], ARRAY[wanted], gone, claims, charges, heads);
  FOR a IN 1 .. cardinality(asked) BY 2 LOOP
    IF found[at] <> 0 THEN
      answer := answer || found[1] || found[at];
      at := at + 2;
    ELSE
      size := 2 + 2 * charges[asked[a + 1] + 1];
      answer := answer || found[1] || found[at] || found[at + 2 : at + 1 + size];
      at := at + 2 + size;
    END IF;
  END LOOP;
  RETURN answer;
END
$$;
