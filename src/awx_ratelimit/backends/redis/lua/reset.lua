-- Units: see state.lua. Clears the debts of a subject, but never its leases.
--
-- KEYS     the subject
-- ARGV[1]  time d, owner 16 (unused)
-- answer   0, or an error code below 0

local t = value_functions()
local value, keep_at, leases_at = t.split(redis.pcall('GET', KEYS[1]))
if not value then return keep_at end
local held, others, own, ends, ttl_ms, expires_ms, lapse_ms = read_leases(value, leases_at)
if not held then return CORRUPT end
local empty, empty_keep_at = t.split(false)
t.write(KEYS[1], empty, empty_keep_at, t.leases(others, own, ends, ttl_ms, expires_ms), lapse_ms)
return 0
