-- Adds the debts and leases of a fallback while the server was unavailable. Refuses nothing.
--
-- entries  for each: number of the record, position of its charge, how many entries of its record came before, leases, the
--          debt of each rate, and for each lease: sequence, ends_ms (0 is never)
-- charges  as in acquire.sql
-- answer   for each entry: 1, 0 if it was done before, or an error code below 0
CREATE OR REPLACE FUNCTION @heal_1(
  call_ms bigint, owner_1 bigint, owner_2 bigint, heal_id bytea, subjects bytea[], scopes text[], entries bigint[],
  charges bigint[], heads text[]
) RETURNS bigint[] LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
  noted_ms CONSTANT bigint := 3600000;
  now_ms bigint;
  answer bigint[] := '{}';
  states @records[] := '{}';
  s @records;
  relaid record;
  lv bigint[]; lines text[]; was text[]; was_levels bigint[]; changed text[];
  at integer := 1; i integer; c integer; rates integer; step integer; leases integer; debts_at integer;
  head text; debt bigint; since_ms bigint; end_ms bigint; period_ms bigint; drain bigint; until_ms bigint; owed bigint;
BEGIN
  states := @all_locked_1(subjects, scopes);
  now_ms := @now_1(call_ms);
  FOR i IN 1 .. cardinality(subjects) LOOP states[i] := @current_leases_1(states[i], now_ms); END LOOP;
  WHILE at <= cardinality(entries) LOOP
    i := entries[at]; c := entries[at + 1]; leases := entries[at + 3]; debts_at := at + 4;
    rates := charges[c + 1]; head := heads[charges[c]];
    s := states[i];
    at := debts_at + rates + 2 * leases;
    IF @is_corrupt_1(s) THEN
      answer := answer || -3::bigint;
      CONTINUE;
    END IF;
    INSERT INTO @notes VALUES (s.subject, s.scope, heal_id || int4send(entries[debts_at - 2]::integer), now_ms + noted_ms)
      ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
      answer := answer || 0::bigint;
      CONTINUE;
    END IF;
    relaid := @relaid_1(s, head, now_ms);
    lv := relaid.new_levels; lines := coalesce(string_to_array(nullif(head, ''), E'\n'), '{}');
    was := relaid.was; was_levels := relaid.was_levels; changed := relaid.changed;
    until_ms := s.keep_ms; step := c + 6;
    FOR j IN 1 .. rates LOOP
      owed := entries[debts_at + j - 1];
      IF owed = 0 AND was[j] IS NOT NULL THEN
        -- Perhaps the claims of the outage did not name it.
        lines[j] := was[j]; lv[2 * j - 1] := was_levels[2 * j - 1]; lv[2 * j] := was_levels[2 * j];
      ELSE
        drain := charges[step + 1]; period_ms := charges[step + 3];
        debt := greatest(0, lv[2 * j - 1]); since_ms := lv[2 * j]; end_ms := NULL;
        IF period_ms < 0 THEN
          -- Where the clock has left the period that the client has sent, that period counts: the moment of an outage is not
          -- known that well either.
          IF since_ms <= now_ms AND since_ms < charges[step + 6] THEN debt := 0; END IF;
          end_ms := charges[step + 7]; period_ms := end_ms - charges[step + 6];
        ELSIF now_ms >= since_ms THEN
          IF drain > 0 THEN
            IF now_ms - since_ms > debt / drain THEN debt := 0; ELSE debt := debt - drain * (now_ms - since_ms); END IF;
          ELSIF now_ms >= @period_end_1(since_ms, period_ms) THEN
            debt := 0;
          END IF;
        END IF;
        IF now_ms >= since_ms OR debt = 0 OR since_ms - now_ms > period_ms THEN since_ms := now_ms; END IF;
        IF drain = 0 AND end_ms IS NULL THEN end_ms := @period_end_1(since_ms, period_ms); END IF;
        IF s.opened > 0 THEN
          IF split_part(lines[j], E'\t', 1) = ANY (changed) THEN
            PERFORM @forget_1(s.subject, s.scope, ARRAY[split_part(lines[j], E'\t', 1)]);
          END IF;
          PERFORM @note_1(s.subject, s.scope, split_part(lines[j], E'\t', 1), debt);
        END IF;
        debt := greatest(debt, least(charges[step + 2], debt + owed));
        until_ms := greatest(until_ms, coalesce(end_ms, since_ms + debt / nullif(drain, 0) + 1) + 60000);
        lv[2 * j - 1] := debt; lv[2 * j] := since_ms;
      END IF;
      step := step + 14;
    END LOOP;
    s.head := array_to_string(lines, E'\n'); s.levels := lv; s.keep_ms := until_ms;
    s.kept := relaid.new_kept; s.kept_levels := relaid.new_kept_levels;
    FOR l IN debts_at + rates .. at - 1 BY 2 LOOP
      IF (entries[l + 1] = 0 OR entries[l + 1] > now_ms) AND @lease_at_1(s.leases, owner_1, owner_2, entries[l]) = 0 THEN
        s.leases := s.leases
          || ARRAY[owner_1, owner_2, entries[l], now_ms + charges[c + 3], charges[c + 3], entries[l + 1]];
      END IF;
    END LOOP;
    states[i] := @with_leases_1(s, now_ms);
    answer := answer || 1::bigint;
  END LOOP;
  FOR i IN 1 .. cardinality(subjects) LOOP PERFORM @write_1(states[i]); END LOOP;
  RETURN answer;
END
$$;
