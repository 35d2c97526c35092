-- Charges what a claim cost more, or gives back what it cost less. A refund gives back all.
--
-- Each claim is settled once, though a call without an answer is sent again and may also arrive late. A declared claim is
-- among the open claims until it is settled. What is not there is noted. `again` says that a claim was declared and sent
-- before: where it is not open, it is settled. The sequence 0: nothing tells whether this was done.
--
-- subjects, scopes  the records, in ascending order
-- lines, changes    the limits that change, and for each: number of the record, tokens (below 0: to give back), the end of
--                   the period of decided_ms (calendar rates)
-- calendars         periods that the call knows, and their bounds
-- answer            for each record: the tokens that are beyond the largest debt, or an error code below 0. Only
--                   OTHER_PERIOD, time, ms, a calendar as the codes of its characters: nothing is done, because the period
--                   of it that contains ms is missing.
CREATE OR REPLACE FUNCTION @settle_1(
  call_ms bigint, claim_owner_1 bigint, claim_owner_2 bigint, claim_sequence bigint, again boolean, declared boolean,
  decided_ms bigint, subjects bytea[], scopes text[], lines text[], changes bigint[], calendars text[], bounds bigint[]
) RETURNS bigint[] LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
  other_period CONSTANT bigint := -4;
  corrupt CONSTANT bigint := -3;
  exact CONSTANT bigint := 9007199254740992;
  margin_ms CONSTANT bigint := 60000;
  noted_ms CONSTANT bigint := 3600000;
  now_ms bigint;
  answer bigint[] := '{}';
  s @records;
  states @records[] := '{}';
  existed boolean[] := '{}';
  wanted_records boolean[];
  change record; known record;
  d record;
  note_id bytea;
  place_of bigint; has_row boolean;
  cut_off bigint; room bigint; wanted bigint; asked bigint; given bigint; amount numeric; until_ms bigint;
BEGIN
  -- What only gives back creates no record.
  wanted_records := ARRAY(
    SELECT EXISTS (SELECT FROM generate_series(1, cardinality(changes), 3) AS c WHERE changes[c] = n AND changes[c + 1] > 0)
    FROM generate_series(1, cardinality(subjects)) AS n);
  IF cardinality(subjects) > 1 THEN
    PERFORM @present_1(subjects, scopes, wanted_records);
    subjects := @lock_1(subjects, scopes, wanted_records);
  END IF;
  FOR i IN 1 .. cardinality(subjects) LOOP
    s := @locked_1(subjects[i], scopes[i], wanted_records[i]);
    existed[i] := s.subject IS NOT NULL;
    states[i] := s;
  END LOOP;
  now_ms := @now_1(call_ms);
  note_id := int8send(claim_owner_1) || int8send(claim_owner_2) || int8send(claim_sequence);

  -- Nothing is written before it is sure that no period is missing.
  FOR i IN 1 .. cardinality(subjects) LOOP
    CONTINUE WHEN NOT existed[i];
    s := states[i];
    FOR known IN SELECT * FROM @limits_1(s.head, s.levels, s.keep_ms, s.kept, s.kept_levels) AS l WHERE l.calendar <> '' LOOP
      CONTINUE WHEN NOT EXISTS (
        SELECT FROM generate_series(1, cardinality(lines)) AS c
        WHERE changes[3 * c - 2] = i AND split_part(lines[c], E'\t', 1) = known.name
          AND (changes[3 * c - 1] > 0 OR s.opened > 0));
      d := @drained_1(known.debt, known.at_ms, known.drain, known.period_ms, known.calendar, calendars, bounds, now_ms);
      IF d.missing_ms IS NOT NULL AND NOT (known.debt = 0 AND known.at_ms = 0) THEN
        RETURN ARRAY[other_period, now_ms, d.missing_ms] || ARRAY(
          SELECT get_byte(convert_to(known.calendar, 'UTF8'), b)::bigint
          FROM generate_series(0, octet_length(known.calendar) - 1) AS b);
      END IF;
    END LOOP;
    FOR change IN
      SELECT p.* FROM @parsed_1(lines) AS p WHERE p.calendar <> ''
        AND changes[3 * p.place - 2] = i AND changes[3 * p.place - 1] > 0
    LOOP
      d := @drained_1(0, now_ms, 0, change.period_ms, change.calendar, calendars, bounds, now_ms);
      IF d.missing_ms IS NOT NULL THEN
        RETURN ARRAY[other_period, now_ms, d.missing_ms] || ARRAY(
          SELECT get_byte(convert_to(change.calendar, 'UTF8'), b)::bigint
          FROM generate_series(0, octet_length(change.calendar) - 1) AS b);
      END IF;
    END LOOP;
  END LOOP;

  FOR i IN 1 .. cardinality(subjects) LOOP
    IF NOT existed[i] THEN
      answer := answer || 0::bigint;
      CONTINUE;
    END IF;
    s := states[i]; cut_off := 0; until_ms := 0;
    IF @is_corrupt_1(s) THEN
      answer := answer || corrupt;
      CONTINUE;
    END IF;
    place_of := NULL;
    -- No open claim is too old here: a clock that is ahead now may be set back, and then it is not. The next declared claim
    -- drops those that are.
    IF s.opened > 0 AND claim_sequence <> 0 AND declared THEN
      SELECT o.place INTO place_of FROM @open_claims AS o
        WHERE o.subject = s.subject AND o.scope = s.scope AND (o.owner_1, o.owner_2) = (claim_owner_1, claim_owner_2)
          AND o.sequence = claim_sequence;
    END IF;
    has_row := place_of IS NOT NULL;
    -- Whether this is done now, and not before.
    IF EXISTS (SELECT FROM generate_series(1, cardinality(changes), 3) AS c WHERE changes[c] = i) AND claim_sequence <> 0
      AND NOT (has_row AND NOT again) THEN
      IF again AND NOT has_row THEN
        answer := answer || 0::bigint;
        CONTINUE;
      END IF;
      INSERT INTO @notes VALUES (s.subject, s.scope, note_id, now_ms + noted_ms) ON CONFLICT DO NOTHING;
      IF NOT FOUND THEN
        answer := answer || 0::bigint;
        CONTINUE;
      END IF;
    END IF;
    FOR change IN
      SELECT p.*, changes[3 * p.place - 1] AS tokens, changes[3 * p.place] AS end_ms FROM @parsed_1(lines) AS p
      WHERE changes[3 * p.place - 2] = i ORDER BY p.place
    LOOP
      SELECT * INTO known FROM @limits_1(s.head, s.levels, s.keep_ms, s.kept, s.kept_levels) AS l WHERE l.name = change.name;
      IF change.tokens > 0 THEN
        IF NOT FOUND THEN
          -- A limit that was never charged is kept beside those of the last charge.
          s.kept := s.kept || change.line; s.kept_levels := s.kept_levels || ARRAY[0, now_ms, 0];
          SELECT * INTO known FROM @limits_1(s.head, s.levels, s.keep_ms, s.kept, s.kept_levels) AS l WHERE l.name = change.name;
        ELSIF known.debt = 0 AND known.at_ms = 0 THEN
          -- It was never charged, so it says nothing about how a debt is counted.
          known.line := change.line; known.unit := change.unit; known.capacity := change.capacity; known.drain := change.drain;
          known.period_ms := change.period_ms; known.calendar := change.calendar;
        END IF;
        d := @drained_1(known.debt, known.at_ms, known.drain, known.period_ms, known.calendar, calendars, bounds, now_ms);
        IF s.opened > 0 THEN PERFORM @note_1(s.subject, s.scope, known.name, d.debt); END IF;
        room := greatest(0, least(2 * known.capacity, exact) - d.debt);
        asked := least(change.tokens, exact);
        IF asked > room / known.unit THEN
          cut_off := cut_off + asked - room / known.unit; wanted := room;
        ELSE
          wanted := asked * known.unit;
        END IF;
        known.debt := d.debt + wanted; known.at_ms := d.at_ms;
        d.end_ms := coalesce(d.end_ms, known.at_ms + known.debt / nullif(known.drain, 0) + 1, 0);
        known.keep_ms := greatest(known.keep_ms, d.end_ms + margin_ms);
        until_ms := greatest(until_ms, d.end_ms + margin_ms);
        s := @with_limit_1(s, known.place, known.line, known.debt, known.at_ms, known.keep_ms);
      ELSIF FOUND AND (known.debt > 0 OR s.opened > 0) THEN
        d := @drained_1(known.debt, known.at_ms, known.drain, known.period_ms, known.calendar, calendars, bounds, now_ms);
        given := NULL;
        IF s.opened > 0 THEN
          PERFORM @note_1(s.subject, s.scope, known.name, d.debt);
          IF place_of IS NOT NULL AND EXISTS (
            SELECT FROM @open_claims AS o
            WHERE o.subject = s.subject AND o.scope = s.scope AND o.place = place_of AND known.name = ANY (o.limits)
          ) THEN
            SELECT least(coalesce(sum(o.step), 0), (-change.tokens)::numeric * known.unit)::bigint INTO given FROM @steps AS o
              WHERE o.subject = s.subject AND o.scope = s.scope AND o.name = known.name AND o.place <= place_of;
            PERFORM @lower_1(s.subject, s.scope, known.name, place_of, given);
          END IF;
        END IF;
        IF given IS NULL THEN
          -- Of the change, what has not refilled since the claim.
          IF change.drain = 0 THEN
            amount := CASE WHEN now_ms < change.end_ms THEN (-change.tokens)::numeric * change.unit ELSE 0 END;
          ELSE
            amount := (-change.tokens)::numeric * change.unit - change.drain::numeric * greatest(0, now_ms - decided_ms);
          END IF;
          given := least(div(greatest(amount, 0) * known.unit, change.unit), 9223372036854775807)::bigint;
        END IF;
        known.debt := greatest(0, known.debt - least(given, known.debt));
        s := @with_limit_1(s, known.place, known.line, known.debt, known.at_ms, known.keep_ms);
        IF s.opened > 0 THEN
          d := @drained_1(known.debt, known.at_ms, known.drain, known.period_ms, known.calendar, calendars, bounds, now_ms);
          PERFORM @note_1(s.subject, s.scope, known.name, d.debt);
        END IF;
      END IF;
    END LOOP;
    IF place_of IS NOT NULL THEN PERFORM @close_1(s.subject, s.scope, place_of); END IF;
    IF s.opened > 0 THEN
      SELECT count(*) INTO s.opened FROM @open_claims AS o WHERE o.subject = s.subject AND o.scope = s.scope;
    END IF;
    s.keep_ms := greatest(s.keep_ms, until_ms);
    PERFORM @write_1(s);
    answer := answer || cut_off;
  END LOOP;
  RETURN answer;
END
$$;

-- The record with other numbers of the limit at `place`: see @limits_1.
CREATE OR REPLACE FUNCTION @with_limit_1(s @records, place bigint, line text, debt bigint, at_ms bigint, keep_ms bigint)
RETURNS @records LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  heads text[];
BEGIN
  IF place > 1000 THEN
    s.kept[place - 1000] := line;
    s.kept_levels[3 * (place - 1000) - 2] := debt;
    s.kept_levels[3 * (place - 1000) - 1] := at_ms;
    s.kept_levels[3 * (place - 1000)] := keep_ms;
  ELSE
    heads := string_to_array(s.head, E'\n');
    IF heads[place] <> line THEN
      heads[place] := line;
      s.head := array_to_string(heads, E'\n');
    END IF;
    s.levels[2 * place - 1] := debt;
    s.levels[2 * place] := at_ms;
  END IF;
  RETURN s;
END
$$;

-- A debt drained to now by the rate that it was charged by, its time, and the end of a calendar rate's period; or the time
-- whose period is missing.
CREATE OR REPLACE FUNCTION @drained_1(
  debt_was bigint, was_ms bigint, drain bigint, period_ms bigint, calendar text,
  calendars text[], bounds bigint[], now_ms bigint,
  OUT debt bigint, OUT at_ms bigint, OUT end_ms bigint, OUT missing_ms bigint
) LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  present record;
  own record;
BEGIN
  debt := debt_was; at_ms := was_ms;
  IF calendar <> '' THEN
    SELECT bounds[2 * c - 1] AS start_ms, bounds[2 * c] AS end_ms INTO present
      FROM generate_series(1, cardinality(calendars)) AS c
      WHERE calendars[c] = calendar AND bounds[2 * c - 1] <= now_ms AND now_ms < bounds[2 * c] LIMIT 1;
    IF NOT FOUND THEN
      debt := 0; missing_ms := now_ms;
      RETURN;
    END IF;
    end_ms := present.end_ms;
    IF debt <= 0 THEN
      debt := 0; at_ms := now_ms;
    ELSIF at_ms <= now_ms THEN
      IF at_ms < present.start_ms THEN debt := 0; END IF;
      at_ms := now_ms;
    ELSE
      SELECT bounds[2 * c - 1] AS start_ms, bounds[2 * c] AS end_ms INTO own
        FROM generate_series(1, cardinality(calendars)) AS c
        WHERE calendars[c] = calendar AND bounds[2 * c - 1] <= was_ms AND was_ms < bounds[2 * c] LIMIT 1;
      IF NOT FOUND THEN
        debt := 0; missing_ms := was_ms;
      ELSIF at_ms - now_ms > own.end_ms - own.start_ms THEN
        at_ms := now_ms;
      ELSE
        end_ms := own.end_ms;
      END IF;
    END IF;
    RETURN;
  END IF;
  IF debt <= 0 THEN
    debt := 0; at_ms := now_ms;
  ELSIF now_ms < at_ms THEN
    IF at_ms - now_ms > period_ms THEN at_ms := now_ms; END IF;
  ELSE
    IF drain > 0 THEN
      IF now_ms - at_ms > debt / drain THEN debt := 0; ELSE debt := debt - drain * (now_ms - at_ms); END IF;
    ELSIF now_ms >= @period_end_1(at_ms, period_ms) THEN
      debt := 0;
    END IF;
    at_ms := now_ms;
  END IF;
  IF drain = 0 THEN end_ms := @period_end_1(at_ms, period_ms); END IF;
END
$$;
