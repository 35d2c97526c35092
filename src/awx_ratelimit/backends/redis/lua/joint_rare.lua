-- Units: see state.lua. What joint.lua needs for few claims: calendar rates, plans that have changed, declared claims.

local t = { limits = limit_functions(), periods = period_functions() }
local by = t.limits

-- The end of the period of a calendar rate, whose charge is at `step`, at `at_ms`; 0 if it is not known.
function t.period_end(charge, step, at_ms)
  local period_ms = u('<d', charge, step + 24)
  if period_ms < 0 then return t.periods.end_of(charge, -period_ms, at_ms) or 0 end
  return at_ms - at_ms % period_ms + period_ms
end

local function tokens_of(charge, head, i) return (u('<d', charge, 25 + #head + 41 * (i - 1) + 32)) end

-- Whether a record that is a string can become a hash. That deletes its key for a moment. While a server of a cluster
-- gives the slot away, it refuses every command for a key that is not there, and the record would be lost.
function t.can_be_hash(key) return type(redis.pcall('EXISTS', key .. '::none')) == 'number' end

-- The open claims of a record after a charge; of a declared claim with its `id`. `limits` are those of a value that had
-- another layout.
function t.open_claims(open, key, id, charge, head, limits, levels, exceeded)
  local opens = id and open_row_functions() or open_functions()
  local claims, debts = opens.parse(open, key), {}
  for i, limit in ipairs(by.names(head, 5, #head, 0)) do
    local was, tokens = limits and limits[i].was, tokens_of(charge, head, i)
    if tokens >= 0 then
      if was and (was.unit ~= limit.unit or was.capacity ~= limit.capacity) then opens.forget(claims, limit.name) end
      if exceeded % 2 ^ i < 2 ^ (i - 1) then
        opens.note(claims, limit.name, levels[2 * i - 1] - limit.unit * tokens)
        debts[#debts + 1], debts[#debts + 2] = limit.name, levels[2 * i - 1]
      end
    end
  end
  if id and #debts > 0 then opens.add(claims, id, debts) end
  return opens.encode(claims)
end

-- The new value, without its leases, of a record whose value had another layout, and the time until which to keep it.
-- A limit that the claim does not name keeps the numbers that it was charged by.
function t.relaid_value(charge, head, limits, levels, kept_ms, until_ms)
  for i = 1, limits.front do
    local limit = limits[i]
    limit.debt, limit.at_ms = levels[2 * i - 1], levels[2 * i]
    if limit.was and tokens_of(charge, head, i) < 0 then limits[i] = limit.was end
  end
  limits.keep_ms = math.max(kept_ms, math.ceil(until_ms) + 2 * MARGIN_MS)
  local longest_ms = limits.keep_ms
  for i = limits.front + 1, #limits do longest_ms = math.max(longest_ms, limits[i].keep_ms) end
  return (by.encode(limits)), longest_ms
end

return t
