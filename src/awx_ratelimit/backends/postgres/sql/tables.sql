-- Units: debts in the unit of their limit, times in ms since the epoch, durations in ms.
--
-- A name after an at sign stands for that name with the schema and the prefix. The tables are not logged: limits survive
-- a restart of the server, but not a crash, and not a failover. No column that changes has an index, so that an update
-- stays in its page.
--
-- A limit is a line of text, with tabs between: its name, its unit, its capacity, what drains in a ms (0 for a calendar
-- rate), its period_ms, and its calendar (empty, or the period, the anchors and the timezone).

CREATE SCHEMA IF NOT EXISTS @schema;

-- The buckets of a subject in one scope ('' for none).
--   head      the limits of the last charge, one in a line, and their levels: debt, time of the last charge
--   keep_ms   when they have drained and the leases have lapsed
--   kept      the limits that the last charge did not have, and their levels: debt, time of the last charge, keep_ms
--   leases    for each: owner (2 numbers), sequence, expires_ms, ttl_ms, ends_ms (0: never)
--   lapse_ms  no lease lapses or ends before; renewed_ms: when a lease was last renewed
--   opened    the number of open declared claims
CREATE UNLOGGED TABLE @records (
  subject bytea NOT NULL,
  scope text COLLATE "C" NOT NULL,
  keep_ms bigint NOT NULL,
  lapse_ms bigint NOT NULL,
  renewed_ms bigint NOT NULL,
  opened integer NOT NULL,
  head text NOT NULL,
  levels bigint[] NOT NULL,
  kept text[] NOT NULL,
  kept_levels bigint[] NOT NULL,
  leases bigint[] NOT NULL,
  PRIMARY KEY (subject, scope)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

-- Open declared claims, in the order of their charges (place), and the limits that they were charged by.
CREATE UNLOGGED TABLE @open_claims (
  subject bytea NOT NULL,
  scope text COLLATE "C" NOT NULL,
  place bigint NOT NULL,
  owner_1 bigint NOT NULL,
  owner_2 bigint NOT NULL,
  sequence bigint NOT NULL,
  charged_ms bigint NOT NULL,
  limits text[] NOT NULL,
  PRIMARY KEY (subject, scope, place)
) WITH (fillfactor = 70);

-- By how much the lowest debt of a limit rises with each place: see core/open_claims.py.
CREATE UNLOGGED TABLE @steps (
  subject bytea NOT NULL,
  scope text COLLATE "C" NOT NULL,
  name text COLLATE "C" NOT NULL,
  place bigint NOT NULL,
  step bigint NOT NULL,
  PRIMARY KEY (subject, scope, name, place)
) WITH (fillfactor = 70);

-- What was done and must not be done again.
CREATE UNLOGGED TABLE @notes (
  subject bytea NOT NULL,
  scope text COLLATE "C" NOT NULL,
  id bytea NOT NULL,
  until_ms bigint NOT NULL,
  PRIMARY KEY (subject, scope, id)
);
CREATE INDEX ON @notes (until_ms);
