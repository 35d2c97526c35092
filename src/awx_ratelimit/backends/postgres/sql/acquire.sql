-- Releases leases, then decides claims of one or more records each, in the given order: all records of a claim are charged,
-- or none. The arithmetic is that of core/decide.py. Products stay within 2**63: see where they are made.
--
-- subjects, scopes  the records, in ascending order; `wanted` says whether a claim may charge them
-- released          the leases to release: number of the record, sequence
-- claims            for each claim: sequence (0 is a peek), whether it is declared, records, and for each record: its
--                   number, the position of its charge
-- charges           for each charge: number of its head, rates, slots mode (0 none, 1 enforced, 2 shadow), ttl_ms, slots,
--                   max_hold_ms (0 is none), and for each rate: unit, drain (0 is calendar), capacity, period_ms (below 0:
--                   one of the calendar), tokens (below 0: not charged, and it does not refuse), enforced, start and end of
--                   the period that contains the present, and of three that contain later stored times (0 and 0: none)
-- answer            the time; for each claim: 0 or an error code, ms, and for each record: exceeded limits as bits, held, and
--                   for each rate: debt, at_ms. A claim with an error code has nothing more. OTHER_PERIOD: the period of
--                   the calendar that contains ms is missing.
CREATE OR REPLACE FUNCTION @acquire_1(
  call_ms bigint, owner_1 bigint, owner_2 bigint, subjects bytea[], scopes text[], wanted boolean[], released bigint[],
  claims bigint[], charges bigint[], heads text[]
) RETURNS bigint[] LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
  other_period CONSTANT bigint := -4;
  corrupt CONSTANT bigint := -3;
  never CONSTANT bigint := 9223372036854775807;
  margin_ms CONSTANT bigint := 60000;
  day_ms CONSTANT bigint := 86400000;
  now_ms bigint;
  answer bigint[];
  parts bigint[];
  states @records[] := '{}';
  drafts @records[];
  is_new boolean[] := '{}';
  dirty boolean[] := '{}';
  s @records;
  relaid record;
  lv bigint[];
  at integer := 1; first_at integer; sequence bigint; declared bigint; record_count integer;
  refused boolean; refusing boolean; failure bigint; failure_ms bigint;
  i integer; c integer; k integer; j integer; p integer; step integer; slot_at integer;
  head text; rates integer; mode bigint; slots bigint;
  unit bigint; drain bigint; capacity bigint; period_ms bigint; tokens bigint;
  debt bigint; since_ms bigint; end_ms bigint; until_ms bigint; start_ms bigint; stop_ms bigint;
  exceeded bigint; bit bigint;
  skipped boolean; rebased integer[]; held bigint; again boolean; moved boolean; is_relaid boolean; kept_ms bigint;
  names text[]; lows bigint[]; debts bigint[]; lines text[]; changed text[]; inserted integer := 0;
BEGIN
  IF cardinality(subjects) > 1 THEN
    inserted := @present_1(subjects, scopes, wanted);
    subjects := @lock_1(subjects, scopes, wanted);
  END IF;
  FOR i IN 1 .. cardinality(subjects) LOOP
    SELECT * INTO s FROM @records WHERE subject = subjects[i] AND scope = scopes[i] FOR NO KEY UPDATE;
    IF NOT FOUND AND wanted[i] THEN
      INSERT INTO @records VALUES (subjects[i], scopes[i], 0, never, 0, 0, '', '{}', '{}', '{}', '{}')
        ON CONFLICT DO NOTHING RETURNING * INTO s;
      IF FOUND THEN
        is_new[i] := true; inserted := inserted + 1;
      ELSE
        s := @locked_1(subjects[i], scopes[i], true);
      END IF;
    END IF;
    IF s.head = '' AND s.kept = '{}' AND s.leases = '{}' THEN is_new[i] := true; END IF;
    IF s.subject IS NULL THEN
      s := ROW(subjects[i], scopes[i], 0, never, 0, 0, '', '{}', '{}', '{}', '{}')::@records;
    END IF;
    states[i] := s;
  END LOOP;
  -- Later than every time at which another call has written these records.
  now_ms := @now_1(call_ms);
  answer := ARRAY[now_ms];
  FOR i IN 1 .. cardinality(subjects) LOOP
    IF (states[i]).lapse_ms <= now_ms OR (states[i]).renewed_ms > now_ms THEN
      states[i] := @current_leases_1(states[i], now_ms);
      dirty[i] := true;
    END IF;
  END LOOP;
  FOR j IN 1 .. cardinality(released) BY 2 LOOP
    s := states[released[j]];
    slot_at := @lease_at_1(s.leases, owner_1, owner_2, released[j + 1]);
    IF slot_at > 0 THEN
      s.leases := s.leases[: slot_at - 1] || s.leases[slot_at + 6 :];
      states[released[j]] := s;
      dirty[released[j]] := true;
    END IF;
  END LOOP;

  WHILE at <= cardinality(claims) LOOP
    sequence := claims[at]; declared := claims[at + 1]; record_count := claims[at + 2];
    first_at := at + 3;
    refused := sequence = 0; failure := 0; failure_ms := 0;
    -- In the first turn, every record is charged, and nothing is stored. If a limit refuses, there is a second turn, in which
    -- nothing is charged. A peek has only the latter.
    LOOP
      refusing := refused OR failure <> 0;
      at := first_at; parts := '{}'; drafts := '{}';
      FOR k IN 1 .. record_count LOOP
        i := claims[at]; c := claims[at + 1]; at := at + 2;
        head := heads[charges[c]]; rates := charges[c + 1]; mode := charges[c + 2];
        s := states[i];
        is_relaid := s.head <> head;
        IF @is_corrupt_1(s) THEN
          failure := corrupt;
          CONTINUE;
        END IF;
        IF is_relaid THEN
          relaid := @relaid_1(s, head, now_ms);
          lv := relaid.new_levels;
        ELSE
          lv := s.levels;
        END IF;

        -- For each rate: the debt now, plus the charge if it fits.
        exceeded := 0; bit := 1; until_ms := now_ms; skipped := false; rebased := NULL; step := c + 6;
        FOR j IN 1 .. rates LOOP
          unit := charges[step]; drain := charges[step + 1]; period_ms := charges[step + 3]; tokens := charges[step + 4];
          debt := lv[2 * j - 1]; since_ms := lv[2 * j]; end_ms := NULL;
          IF tokens < 0 THEN
            skipped := true;
            IF period_ms < 0 THEN
              end_ms := coalesce(charges[@period_at_1(charges, step + 6, since_ms) + 1], 0);
            END IF;
          ELSIF period_ms < 0 THEN
            slot_at := @period_at_1(charges, step + 6, now_ms);
            start_ms := charges[slot_at]; stop_ms := charges[slot_at + 1];
            IF slot_at IS NULL THEN
              IF failure = 0 THEN failure := other_period; failure_ms := now_ms; END IF;
              end_ms := now_ms;
            ELSIF debt <= 0 THEN
              debt := 0; since_ms := now_ms; end_ms := stop_ms;
            ELSIF since_ms <= now_ms THEN
              IF since_ms < start_ms THEN debt := 0; END IF;
              since_ms := now_ms; end_ms := stop_ms;
            ELSE
              end_ms := stop_ms;
              slot_at := @period_at_1(charges, step + 6, since_ms);
              start_ms := charges[slot_at]; stop_ms := charges[slot_at + 1];
              IF slot_at IS NULL THEN
                IF failure = 0 THEN failure := other_period; failure_ms := since_ms; END IF;
                end_ms := now_ms;
              ELSIF since_ms - now_ms > stop_ms - start_ms THEN
                since_ms := now_ms;
                rebased := coalesce(rebased, '{}') || j;
              ELSE
                end_ms := stop_ms;
              END IF;
            END IF;
          ELSIF debt <= 0 THEN
            debt := 0; since_ms := now_ms;
          ELSIF now_ms < since_ms THEN
            IF since_ms - now_ms > period_ms THEN
              since_ms := now_ms;
              rebased := coalesce(rebased, '{}') || j;
            END IF;
          ELSE
            IF drain > 0 THEN
              -- No product is larger than the debt.
              IF now_ms - since_ms > debt / drain THEN debt := 0; ELSE debt := debt - drain * (now_ms - since_ms); END IF;
            ELSIF now_ms >= @period_end_1(since_ms, period_ms) THEN
              debt := 0;
            END IF;
            since_ms := now_ms;
          END IF;
          IF tokens > 0 THEN
            -- The quotient instead of a product that may be too large. A debt beyond the capacity has no room.
            IF tokens > (charges[step + 2] - debt) / unit THEN
              exceeded := exceeded + bit;
              refused := refused OR charges[step + 5] = 1;
            ELSIF NOT refusing THEN
              debt := debt + unit * tokens;
            END IF;
          END IF;
          IF drain > 0 THEN
            end_ms := since_ms + debt / drain + 1;
          ELSIF end_ms IS NULL THEN
            end_ms := @period_end_1(since_ms, period_ms);
          END IF;
          IF end_ms > until_ms AND (debt > 0 OR NOT refusing) THEN until_ms := end_ms; END IF;
          lv[2 * j - 1] := debt; lv[2 * j] := since_ms;
          step := step + 14; bit := bit + bit;
        END LOOP;

        held := cardinality(s.leases) / 6;
        IF mode > 0 THEN
          -- A lease that exists already is a retry after a lost reply.
          again := sequence <> 0 AND @lease_at_1(s.leases, owner_1, owner_2, sequence) > 0;
          IF NOT again AND held >= charges[c + 4] THEN
            exceeded := exceeded + bit;
            refused := refused OR mode = 1;
          ELSIF NOT again AND NOT refusing THEN
            held := held + 1;
            end_ms := CASE WHEN charges[c + 5] > 0 THEN now_ms + charges[c + 5] ELSE 0 END;
            s.leases := s.leases || ARRAY[owner_1, owner_2, sequence, now_ms + charges[c + 3], charges[c + 3], end_ms];
            s.lapse_ms := least(s.lapse_ms, now_ms + charges[c + 3], nullif(end_ms, 0));
            s.renewed_ms := greatest(s.renewed_ms, now_ms);
            until_ms := greatest(until_ms, now_ms + charges[c + 3]);
          END IF;
        END IF;
        parts := parts || exceeded || held || lv;

        IF refusing THEN
          IF failure = 0 AND (s.head <> '' OR cardinality(s.kept) > 0) AND (
            rebased IS NOT NULL OR until_ms > now_ms AND (is_relaid OR until_ms > s.keep_ms)
          ) THEN
            IF is_relaid THEN
              s := @uncharged_1(s, head, rebased, now_ms, until_ms);
            ELSE
              FOREACH p IN ARRAY coalesce(rebased, '{}') LOOP s.levels[2 * p] := now_ms; END LOOP;
              s.keep_ms := greatest(s.keep_ms, until_ms);
            END IF;
            IF s IS DISTINCT FROM states[i] THEN
              states[i] := s;
              dirty[i] := true;
            END IF;
          END IF;
        ELSIF NOT refused AND failure = 0 THEN
          kept_ms := CASE WHEN skipped OR cardinality(s.leases) > 0 THEN s.keep_ms ELSE 0 END;
          IF s.keep_ms > until_ms + day_ms AND NOT skipped THEN
            -- It came from a clock that was ahead.
            kept_ms := coalesce((SELECT max(s.leases[l]) FROM generate_series(4, cardinality(s.leases), 6) AS l), 0);
          END IF;
          s.keep_ms := greatest(kept_ms, until_ms + margin_ms);
          IF is_relaid THEN
            s.kept := relaid.new_kept; s.kept_levels := relaid.new_kept_levels;
          END IF;
          IF is_relaid AND skipped THEN
            -- A limit that the claim does not name keeps the numbers that it was charged by.
            lines := string_to_array(head, E'\n'); step := c + 6;
            FOR j IN 1 .. rates LOOP
              IF charges[step + 4] < 0 AND relaid.was[j] IS NOT NULL THEN
                lines[j] := relaid.was[j];
                lv[2 * j - 1] := relaid.was_levels[2 * j - 1]; lv[2 * j] := relaid.was_levels[2 * j];
              END IF;
              step := step + 14;
            END LOOP;
            s.head := array_to_string(lines, E'\n');
          ELSE
            s.head := head;
          END IF;
          s.levels := lv;
          drafts[k] := s;
        END IF;
      END LOOP;
      EXIT WHEN refusing OR NOT refused AND failure = 0;
    END LOOP;

    IF NOT refusing THEN
      at := first_at; p := 1;
      FOR k IN 1 .. record_count LOOP
        i := claims[at]; c := claims[at + 1]; at := at + 2;
        rates := charges[c + 1];
        s := drafts[k];
        IF declared = 1 OR s.opened > 0 THEN
          names := '{}'; lows := '{}'; debts := '{}'; changed := '{}'; step := c + 6; head := heads[charges[c]];
          lines := string_to_array(head, E'\n');
          FOR j IN 1 .. rates LOOP
            IF charges[step + 4] >= 0 AND parts[p] & (1::bigint << (j - 1)) = 0 THEN
              names := names || split_part(lines[j], E'\t', 1);
              lows := lows || (parts[p + 2 * j] - charges[step] * charges[step + 4]);
              debts := debts || parts[p + 2 * j];
            END IF;
            step := step + 14;
          END LOOP;
          IF (states[i]).head <> head THEN
            relaid := @relaid_1(states[i], head, now_ms);
            changed := relaid.changed;
          END IF;
          s.opened := @charged_1(s.subject, s.scope, names, lows, debts, changed, owner_1, owner_2,
            CASE WHEN declared = 1 THEN sequence END, now_ms);
        END IF;
        states[i] := s;
        dirty[i] := true;
        p := p + 2 + 2 * rates;
      END LOOP;
    END IF;
    answer := answer || failure || failure_ms;
    IF failure = 0 THEN answer := answer || parts; END IF;
  END LOOP;

  FOR i IN 1 .. cardinality(subjects) LOOP
    IF dirty[i] OR is_new[i] THEN PERFORM @write_1(states[i]); END IF;
  END LOOP;
  IF random() * 16 < inserted THEN PERFORM @sweep_1(now_ms); END IF;
  RETURN answer;
END
$$;
