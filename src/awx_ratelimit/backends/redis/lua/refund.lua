-- Units: see state.lua. Gives back what a decision charged and time has not refilled.
--
-- KEYS     the subject
-- ARGV[1]  time d, owner 16 (unused), cost d, decided_at_ms d, exceeded d (the limits that were not charged, as bits)
-- ARGV[2]  the plan, as in acquire.lua
-- answer   0, or an error code below 0

local t, by = value_functions(), limit_functions()
local cost, decided_at_ms, exceeded = u('<ddd', asked, 25)
local count, names = u('<BI2', ARGV[2])
local value, keep_at, leases_at = t.split(redis.pcall('GET', KEYS[1]))
if not value then return keep_at end
local limits = by.parse(value, keep_at, leases_at)
if not limits then return CORRUPT end

local elapsed_ms, changed, step = math.max(0, now_ms - decided_at_ms), false, 25 + names
for i, charged in ipairs(by.names(ARGV[2], 29, 24 + names, 0)) do
  local unit, drain, _, period_ms = u('<dddd', ARGV[2], step)
  local amount = unit * cost - drain * elapsed_ms
  if drain == 0 and now_ms >= decided_at_ms - decided_at_ms % period_ms + period_ms then amount = 0 end
  if amount > 0 and exceeded % 2 ^ i < 2 ^ (i - 1) then
    for _, limit in ipairs(limits) do
      if limit.name == charged.name then
        limit.debt, changed = math.max(0, limit.debt - by.scaled(amount, limit.unit, unit)), true
      end
    end
  end
  step = step + 33
end
if changed then
  local bytes, keep_now_at = by.encode(limits)
  t.write(KEYS[1], bytes, keep_now_at, sub(value, leases_at), 0)
end
return 0
