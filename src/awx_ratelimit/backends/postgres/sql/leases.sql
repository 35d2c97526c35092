-- Extends the leases of one owner by their ttl, and enters lost leases again. Ends those of the owner that are not listed
-- and have a sequence below `settled`: their release was lost.
--
-- held    for each lease: number of the record, sequence, slots, ttl_ms, ends_ms (0 is never), by record
-- answer  for each lease: 0 lost, 1 renewed, 2 taken again, 3 ended because of its max_hold_ms
CREATE OR REPLACE FUNCTION @renew_1(
  call_ms bigint, owner_1 bigint, owner_2 bigint, settled bigint, subjects bytea[], scopes text[], held bigint[]
) RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
  now_ms bigint;
  answer bigint[] := '{}';
  states @records[] := '{}';
  s @records;
  kept bigint[];
  listed bigint[];
  at integer := 1; l integer; result bigint;
BEGIN
  states := @all_locked_1(subjects, scopes);
  now_ms := @now_1(call_ms);
  FOR i IN 1 .. cardinality(subjects) LOOP
    s := @current_leases_1(states[i], now_ms);
    listed := ARRAY(SELECT held[h + 1] FROM generate_series(1, cardinality(held), 5) AS h WHERE held[h] = i);
    kept := '{}';
    FOR l IN 1 .. cardinality(s.leases) BY 6 LOOP
      IF s.leases[l] <> owner_1 OR s.leases[l + 1] <> owner_2 OR s.leases[l + 2] = ANY (listed)
        OR s.leases[l + 2] >= settled THEN
        kept := kept || s.leases[l : l + 5];
      END IF;
    END LOOP;
    s.leases := kept;
    WHILE at <= cardinality(held) AND held[at] = i LOOP
      l := @lease_at_1(s.leases, owner_1, owner_2, held[at + 1]);
      IF l > 0 THEN
        result := 1;
        s.leases[l + 3] := now_ms + greatest(s.leases[l + 4], held[at + 3]);
        s.leases[l + 4] := greatest(s.leases[l + 4], held[at + 3]);
      ELSIF held[at + 4] > 0 AND held[at + 4] <= now_ms THEN
        result := 3;
      ELSIF cardinality(s.leases) / 6 < held[at + 2] THEN
        result := 2;
        s.leases := s.leases || ARRAY[owner_1, owner_2, held[at + 1], now_ms + held[at + 3], held[at + 3], held[at + 4]];
      ELSE
        result := 0;
      END IF;
      answer := answer || result;
      at := at + 5;
    END LOOP;
    PERFORM @write_1(@with_leases_1(s, now_ms));
  END LOOP;
  RETURN answer;
END
$$;

-- The record with the times that its leases need.
CREATE OR REPLACE FUNCTION @with_leases_1(s @records, now_ms bigint) RETURNS @records LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  s.lapse_ms := 9223372036854775807;
  s.renewed_ms := now_ms;
  FOR l IN 1 .. cardinality(s.leases) BY 6 LOOP
    s.lapse_ms := least(s.lapse_ms, s.leases[l + 3], nullif(s.leases[l + 5], 0));
    s.keep_ms := greatest(s.keep_ms, s.leases[l + 3] + 60000);
  END LOOP;
  RETURN s;
END
$$;

-- Whether a record has a debt left, or is corrupt. Without the periods of a calendar, a debt counts as long as it is kept.
CREATE OR REPLACE FUNCTION @is_in_debt_1(r @records, now_ms bigint) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  RETURN @is_corrupt_1(r) OR EXISTS (
    SELECT FROM @limits_1(r.head, r.levels, r.keep_ms, r.kept, r.kept_levels) AS l,
      @drained_1(l.debt, l.at_ms, l.drain, l.period_ms, l.calendar, '{}', '{}', now_ms) AS d
    WHERE d.debt > 0 OR d.missing_ms IS NOT NULL AND l.debt > 0 AND l.keep_ms > now_ms);
EXCEPTION WHEN @corruption THEN
  RETURN true;
END
$$;

-- Clears the debts of a subject in one scope, or in all of them for null, but never its leases.
--
-- answer  1 if a debt was left, or a record was corrupt
CREATE OR REPLACE FUNCTION @reset_1(call_ms bigint, key bytea, key_scope text) RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
  s @records;
  was_in_debt boolean := false;
BEGIN
  FOR s IN
    SELECT * FROM @records AS x WHERE x.subject = key AND (key_scope IS NULL OR x.scope = key_scope)
    ORDER BY x.scope FOR NO KEY UPDATE
  LOOP
    was_in_debt := was_in_debt OR @is_in_debt_1(s, @now_1(call_ms));
    DELETE FROM @open_claims AS x WHERE x.subject = s.subject AND x.scope = s.scope;
    DELETE FROM @steps AS x WHERE x.subject = s.subject AND x.scope = s.scope;
    s.head := ''; s.levels := '{}'; s.kept := '{}'; s.kept_levels := '{}'; s.opened := 0;
    -- A corrupt record is usable again after this.
    IF @is_corrupt_1(s) THEN s.leases := '{}'; END IF;
    PERFORM @write_1(s);
  END LOOP;
  RETURN ARRAY[was_in_debt::integer];
END
$$;
