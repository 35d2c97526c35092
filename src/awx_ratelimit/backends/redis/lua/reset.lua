-- Units: see state.lua. Clears the debts of records of one subject, but never their leases.
--
-- KEYS     the index of its scopes, then its records; alone, the index belongs to no record and the call does nothing
-- ARGV[1]  time d, owner 16 (unused), whether every scope must be among the records B
-- others   the scopes of the records in KEYS, if every scope must be there
-- answer   the index, if it has a scope that is not there, and nothing is done; else 1 if a debt was left or the limits
--          of a record were corrupt, 0 if not, or an error code below 0

local t, by = value_functions(), limit_functions()
if u('<B', asked, 25) == 1 then
  local index = redis.pcall('MGET', KEYS[1])[1]
  if type(index) == 'string' then
    local listed = {}
    for i = 2, #ARGV do listed[ARGV[i]] = true end
    for scope in string.gmatch(sub(index, 9), '[^,]+') do
      if not listed[scope] then return sub(index, 9) end
    end
  end
end

-- Whether a debt is left. The call does not know the periods of a calendar: a debt counts until it is not kept any more.
local function is_in_debt(value, keep_at, leases_at)
  local limits = by.parse(value, keep_at, leases_at)
  for _, limit in ipairs(limits or {}) do
    if limit.calendar and limit.debt > 0 and limit.keep_ms > now_ms then return true end
    if not limit.calendar and by.drained(limit) > 0 then return true end
  end
  return not limits
end

local answer = 0
for i = 2, #KEYS do
  local stored = read(KEYS[i])
  local value, keep_at, leases_at = t.split(stored)
  local held, others, own, ends, ttl_ms, expires_ms, lapse_ms
  if value then held, others, own, ends, ttl_ms, expires_ms, lapse_ms = read_leases(value, leases_at) end
  if held then
    local empty, empty_keep_at = t.split(false)
    t.write(KEYS[i], empty, empty_keep_at, t.leases(others, own, ends, ttl_ms, expires_ms), lapse_ms, '')
    if answer == 0 and is_in_debt(value, keep_at, leases_at) then answer = 1 end
  else
    answer = value and CORRUPT or keep_at
  end
end
return answer
