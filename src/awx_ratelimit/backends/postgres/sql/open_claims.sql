-- Open declared claims, by which a claim that costs less than it was charged is given back exactly. See
-- core/open_claims.py for the arithmetic. The record of the claims is locked.

-- Takes `amount` from the last of the steps up to `last`.
CREATE OR REPLACE FUNCTION @lower_1(key bytea, key_scope text, limit_name text, last bigint, amount bigint)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  each record;
BEGIN
  FOR each IN
    SELECT s.place, s.step FROM @steps AS s
    WHERE s.subject = key AND s.scope = key_scope AND s.name = limit_name AND s.place <= last ORDER BY s.place DESC
  LOOP
    EXIT WHEN amount <= 0;
    IF amount >= each.step THEN
      DELETE FROM @steps AS s
      WHERE s.subject = key AND s.scope = key_scope AND s.name = limit_name AND s.place = each.place;
    ELSE
      UPDATE @steps AS s SET step = s.step - amount
      WHERE s.subject = key AND s.scope = key_scope AND s.name = limit_name AND s.place = each.place;
    END IF;
    amount := amount - each.step;
  END LOOP;
END
$$;

-- The debt of a limit was as low as `debt` just now. Returns the sum of its steps.
CREATE OR REPLACE FUNCTION @note_1(key bytea, key_scope text, limit_name text, debt bigint)
RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
  total bigint;
BEGIN
  SELECT coalesce(sum(s.step), 0) INTO total FROM @steps AS s
    WHERE s.subject = key AND s.scope = key_scope AND s.name = limit_name;
  IF debt >= total THEN RETURN total; END IF;
  PERFORM @lower_1(key, key_scope, limit_name, 9223372036854775807, total - debt);
  RETURN debt;
END
$$;

-- These limits are counted otherwise from now on: no open claim can be given back by them exactly.
CREATE OR REPLACE FUNCTION @forget_1(key bytea, key_scope text, names text[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM @steps AS s WHERE s.subject = key AND s.scope = key_scope AND s.name = ANY (names);
  UPDATE @open_claims AS o SET limits = ARRAY(SELECT l FROM unnest(o.limits) AS l WHERE l <> ALL (names))
    WHERE o.subject = key AND o.scope = key_scope AND o.limits && names;
END
$$;

-- Removes an open claim. Its steps move to the one after it, because earlier claims do not depend on them.
CREATE OR REPLACE FUNCTION @close_1(key bytea, key_scope text, closed bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  next_place bigint;
BEGIN
  DELETE FROM @open_claims AS o WHERE o.subject = key AND o.scope = key_scope AND o.place = closed;
  SELECT min(o.place) INTO next_place FROM @open_claims AS o
    WHERE o.subject = key AND o.scope = key_scope AND o.place > closed;
  IF next_place IS NOT NULL THEN
    INSERT INTO @steps AS s
      SELECT m.subject, m.scope, m.name, next_place, m.step FROM @steps AS m
      WHERE m.subject = key AND m.scope = key_scope AND m.place = closed
      ON CONFLICT (subject, scope, name, place) DO UPDATE SET step = s.step + excluded.step;
  END IF;
  DELETE FROM @steps AS s WHERE s.subject = key AND s.scope = key_scope AND s.place = closed;
END
$$;

-- Notes a charge by the limits in `names`, from the debts `lows` to `debts`; of a declared claim unless `sequence` is
-- null. Returns the number of open claims.
CREATE OR REPLACE FUNCTION @charged_1(
  key bytea, key_scope text, names text[], lows bigint[], debts bigint[], changed text[],
  claim_owner_1 bigint, claim_owner_2 bigint, claim_sequence bigint, now_ms bigint
) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
  new_place bigint;
  oldest record;
  total bigint;
BEGIN
  IF cardinality(changed) > 0 THEN PERFORM @forget_1(key, key_scope, changed); END IF;
  FOR i IN 1 .. cardinality(names) LOOP PERFORM @note_1(key, key_scope, names[i], lows[i]); END LOOP;
  IF claim_sequence IS NOT NULL AND cardinality(names) > 0 THEN
    IF NOT EXISTS (
      SELECT FROM @open_claims AS o
      WHERE o.subject = key AND o.scope = key_scope AND abs(now_ms - o.charged_ms) <= 600000
    ) THEN
      -- At once: there may be a thousand.
      DELETE FROM @open_claims AS o WHERE o.subject = key AND o.scope = key_scope;
      DELETE FROM @steps AS s WHERE s.subject = key AND s.scope = key_scope;
    END IF;
    LOOP
      SELECT o.place, o.charged_ms INTO oldest FROM @open_claims AS o
        WHERE o.subject = key AND o.scope = key_scope ORDER BY o.place LIMIT 1;
      EXIT WHEN NOT FOUND OR abs(now_ms - oldest.charged_ms) <= 600000;
      PERFORM @close_1(key, key_scope, oldest.place);
    END LOOP;
    SELECT coalesce(max(o.place), 0) + 1 INTO new_place FROM @open_claims AS o WHERE o.subject = key AND o.scope = key_scope;
    INSERT INTO @open_claims
      VALUES (key, key_scope, new_place, claim_owner_1, claim_owner_2, claim_sequence, now_ms, names);
    FOR i IN 1 .. cardinality(names) LOOP
      total := @note_1(key, key_scope, names[i], debts[i]);
      IF debts[i] > total THEN
        INSERT INTO @steps VALUES (key, key_scope, names[i], new_place, debts[i] - total);
      END IF;
    END LOOP;
    IF (SELECT count(*) FROM @open_claims AS o WHERE o.subject = key AND o.scope = key_scope) > 1000 THEN
      PERFORM @close_1(key, key_scope, oldest.place);
    END IF;
  END IF;
  RETURN (SELECT count(*) FROM @open_claims AS o WHERE o.subject = key AND o.scope = key_scope);
END
$$;
