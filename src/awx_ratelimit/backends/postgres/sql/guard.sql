-- Calls of several claims, records or leases, of which a record that is corrupt, or that another transaction keeps locked
-- for longer than lock_timeout, must fail only its own. If a function fails for such a reason, its work is undone, and done
-- again piece by piece.

-- As @acquire_plain_1, for one record. A corrupt one is an error code.
CREATE OR REPLACE FUNCTION @acquire_apart_1(
  call_ms bigint, owner_1 bigint, owner_2 bigint, subjects bytea[], scopes text[], asked bigint[],
  charges bigint[], heads text[]
) RETURNS bigint[] LANGUAGE plpgsql AS $$
BEGIN
  RETURN @acquire_plain_1(call_ms, owner_1, owner_2, subjects, scopes, asked, charges, heads);
EXCEPTION WHEN @corruption THEN
  RETURN @failed_1(asked[1], -3);
END
$$;

-- As @acquire_1.
CREATE OR REPLACE FUNCTION @acquire_jointly_1(
  call_ms bigint, owner_1 bigint, owner_2 bigint, subjects bytea[], scopes text[], wanted boolean[], released bigint[],
  claims bigint[], charges bigint[], heads text[]
) RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
  now_ms bigint;
  answer bigint[];
  numbers bigint[]; claim bigint[];
  at integer := 1; end_at integer;
  has_waited boolean := false;
  is_busy boolean[] := '{}';
BEGIN
  BEGIN
    RETURN @acquire_1(call_ms, owner_1, owner_2, subjects, scopes, wanted, released, claims, charges, heads);
  EXCEPTION
    WHEN lock_not_available THEN has_waited := true;
    WHEN @corruption THEN NULL;
  END;
  -- All locks first, in their order: the claims lock in another.
  IF has_waited THEN
    SELECT l.keys, l.busy INTO subjects, is_busy FROM @lock_free_1(subjects, scopes, wanted) AS l;
  ELSE
    PERFORM @present_1(subjects, scopes, wanted);
    subjects := @lock_1(subjects, scopes, wanted);
  END IF;
  now_ms := @now_1(call_ms);
  answer := ARRAY[now_ms];
  FOR j IN 1 .. cardinality(released) BY 2 LOOP
    BEGIN
      PERFORM @acquire_1(now_ms, owner_1, owner_2, subjects[released[j] : released[j]], scopes[released[j] : released[j]],
        '{f}', ARRAY[1, released[j + 1]], '{}', charges, heads);
    EXCEPTION WHEN @corruption THEN
      NULL;
    END;
  END LOOP;
  WHILE at <= cardinality(claims) LOOP
    end_at := at + 2 + 2 * claims[at + 2]::integer;
    numbers := ARRAY(SELECT claims[n] FROM generate_series(at + 3, end_at, 2) AS n ORDER BY 1);
    claim := claims[at : end_at];
    at := end_at + 1;
    IF (SELECT bool_or(is_busy[n]) FROM unnest(numbers) AS n) THEN
      answer := answer || ARRAY[-5, 0]::bigint[];
      CONTINUE;
    END IF;
    FOR n IN 4 .. cardinality(claim) BY 2 LOOP claim[n] := array_position(numbers, claim[n]); END LOOP;
    BEGIN
      answer := answer || (@acquire_1(
        now_ms, owner_1, owner_2, ARRAY(SELECT subjects[n] FROM unnest(numbers) AS n),
        ARRAY(SELECT scopes[n] FROM unnest(numbers) AS n), ARRAY(SELECT wanted[n] FROM unnest(numbers) AS n),
        '{}', claim, charges, heads))[2 :];
    EXCEPTION WHEN @corruption THEN
      answer := answer || ARRAY[-3, 0]::bigint[];
    END;
  END LOOP;
  -- What was inserted and stayed empty.
  DELETE FROM @records AS r USING unnest(subjects, scopes) AS u (subject, scope)
    WHERE r.subject = u.subject AND r.scope = u.scope AND r.head = '' AND r.kept = '{}' AND r.leases = '{}';
  RETURN answer;
END
$$;

-- As @renew_1. The leases of a corrupt record are lost. For those of a locked one, the answer is 4: renew them later.
CREATE OR REPLACE FUNCTION @renew_all_1(
  call_ms bigint, owner_1 bigint, owner_2 bigint, settled bigint, subjects bytea[], scopes text[], held bigint[]
) RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
  answer bigint[] := '{}';
  own bigint[];
  has_waited boolean := false;
  is_busy boolean[] := '{}';
BEGIN
  BEGIN
    RETURN @renew_1(call_ms, owner_1, owner_2, settled, subjects, scopes, held);
  EXCEPTION
    WHEN lock_not_available THEN has_waited := true;
    WHEN @corruption THEN NULL;
  END;
  -- All locks first: a record that is missing may be inserted.
  IF has_waited THEN
    SELECT l.keys, l.busy INTO subjects, is_busy
      FROM @lock_free_1(subjects, scopes, array_fill(true, ARRAY[cardinality(subjects)])) AS l;
  ELSE
    PERFORM @all_locked_1(subjects, scopes);
  END IF;
  FOR i IN 1 .. cardinality(subjects) LOOP
    own := ARRAY(
      SELECT CASE WHEN (n - 1) % 5 = 0 THEN 1 ELSE held[n] END FROM generate_series(1, cardinality(held)) AS n
      WHERE held[n - (n - 1) % 5] = i ORDER BY n);
    IF is_busy[i] THEN
      answer := answer || array_fill(4::bigint, ARRAY[cardinality(own) / 5]);
      CONTINUE;
    END IF;
    BEGIN
      answer := answer || @renew_1(call_ms, owner_1, owner_2, settled, subjects[i : i], scopes[i : i], own);
    EXCEPTION WHEN @corruption THEN
      answer := answer || array_fill(0::bigint, ARRAY[cardinality(own) / 5]);
    END;
  END LOOP;
  RETURN answer;
END
$$;

-- As @heal_1.
CREATE OR REPLACE FUNCTION @heal_all_1(
  call_ms bigint, owner_1 bigint, owner_2 bigint, heal_id bytea, subjects bytea[], scopes text[], entries bigint[],
  charges bigint[], heads text[]
) RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
  answer bigint[] := '{}';
  at integer := 1; end_at integer; i integer;
BEGIN
  BEGIN
    RETURN @heal_1(call_ms, owner_1, owner_2, heal_id, subjects, scopes, entries, charges, heads);
  EXCEPTION WHEN @corruption THEN
    NULL;
  END;
  -- All locks first, in their order: entries have another.
  PERFORM @all_locked_1(subjects, scopes);
  WHILE at <= cardinality(entries) LOOP
    i := entries[at];
    end_at := at + 3 + charges[entries[at + 1] + 1]::integer + 2 * entries[at + 3]::integer;
    BEGIN
      answer := answer || @heal_1(call_ms, owner_1, owner_2, heal_id, subjects[i : i], scopes[i : i],
        1::bigint || entries[at + 1 : end_at], charges, heads);
    EXCEPTION WHEN @corruption THEN
      answer := answer || -3::bigint;
    END;
    at := end_at + 1;
  END LOOP;
  RETURN answer;
END
$$;
