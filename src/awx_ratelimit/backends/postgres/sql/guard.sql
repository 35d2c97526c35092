-- Calls of several claims, records or leases, of which a corrupt record must fail only its own. If a function fails for
-- such a reason, its work is undone, and done again piece by piece.

-- As @acquire_plain_1, for one record. A corrupt one is an error code.
CREATE OR REPLACE FUNCTION @acquire_apart_1(
  call_ms bigint, owner_1 bigint, owner_2 bigint, subjects bytea[], scopes text[], asked bigint[],
  charges bigint[], heads text[]
) RETURNS bigint[] LANGUAGE plpgsql AS $$
BEGIN
  RETURN @acquire_plain_1(call_ms, owner_1, owner_2, subjects, scopes, asked, charges, heads);
EXCEPTION WHEN @corruption THEN
  RETURN ARRAY(SELECT CASE n % 2 WHEN 0 THEN -3 ELSE 0 END::bigint FROM generate_series(1, 2 * asked[1]) AS n);
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
BEGIN
  BEGIN
    RETURN @acquire_1(call_ms, owner_1, owner_2, subjects, scopes, wanted, released, claims, charges, heads);
  EXCEPTION WHEN @corruption THEN
    NULL;
  END;
  PERFORM @present_1(subjects, scopes, wanted);
  -- All locks first, in their order: the claims lock in another.
  subjects := @lock_1(subjects, scopes, wanted);
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
    FOR n IN 4 .. cardinality(claim) BY 2 LOOP claim[n] := array_position(numbers, claim[n]); END LOOP;
    BEGIN
      answer := answer || (@acquire_1(
        now_ms, owner_1, owner_2, ARRAY(SELECT subjects[n] FROM unnest(numbers) AS n),
        ARRAY(SELECT scopes[n] FROM unnest(numbers) AS n), ARRAY(SELECT wanted[n] FROM unnest(numbers) AS n),
        '{}', claim, charges, heads))[2 :];
    EXCEPTION WHEN @corruption THEN
      answer := answer || ARRAY[-3, 0]::bigint[];
    END;
    at := end_at + 1;
  END LOOP;
  -- What was inserted and stayed empty.
  DELETE FROM @records AS r USING unnest(subjects, scopes) AS u (subject, scope)
    WHERE r.subject = u.subject AND r.scope = u.scope AND r.head = '' AND r.kept = '{}' AND r.leases = '{}';
  RETURN answer;
END
$$;

-- As @renew_1. The leases of a corrupt record are lost.
CREATE OR REPLACE FUNCTION @renew_all_1(
  call_ms bigint, owner_1 bigint, owner_2 bigint, settled bigint, subjects bytea[], scopes text[], held bigint[]
) RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
  answer bigint[] := '{}';
  own bigint[];
BEGIN
  BEGIN
    RETURN @renew_1(call_ms, owner_1, owner_2, settled, subjects, scopes, held);
  EXCEPTION WHEN @corruption THEN
    NULL;
  END;
  -- All locks first: a record that is missing may be inserted.
  PERFORM @all_locked_1(subjects, scopes);
  FOR i IN 1 .. cardinality(subjects) LOOP
    own := ARRAY(
      SELECT CASE WHEN (n - 1) % 5 = 0 THEN 1 ELSE held[n] END FROM generate_series(1, cardinality(held)) AS n
      WHERE held[n - (n - 1) % 5] = i ORDER BY n);
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
