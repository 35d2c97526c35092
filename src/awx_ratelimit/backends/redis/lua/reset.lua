-- Units: as in state.lua. Forgets what a subject owes, never its leases.
--
-- KEYS     the subject
-- ARGV[1]  time d, owner 16 (not spoken of)
-- answer   0, or a code below 0

local t = parts()
local value, keep_at, leases_at = t.parted(redis.pcall('GET', KEYS[1]))
if not value then return keep_at end
local held, others, own, ends, ttl_ms, expires_ms, lapse_ms = read_leases(value, leases_at)
if not held then return CORRUPT end
local empty, empty_keep_at = t.parted(false)
t.write(KEYS[1], empty, empty_keep_at, t.leases(others, own, ends, ttl_ms, expires_ms), lapse_ms)
return 0
