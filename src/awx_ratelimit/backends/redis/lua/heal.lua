-- Units: see state.lua. Adds the debts and leases of a fallback while the server was unavailable. Refuses nothing.
--
-- KEYS     for each subject: its key, and the key that records that this was done
-- ARGV[1]  time d, owner 16, how long to keep that record in ms d; for each subject: index of its plan in ARGV I2,
--          leases I2, for each rate of the plan: debt d, and for each lease: sequence I8, ends_ms d (0 is never)
-- others   plans, as in acquire.lua
-- answer   for each subject, i8: 1, 0 if it was done before, or an error code below 0

local p, by, answers, at = value_functions(), limit_functions(), {}, 33
local remember_ms = u('<d', asked, 25)

-- Drains a limit to now. acquire.lua has the same arithmetic inline.
local function drain_now(limit, drain, capacity, period_ms)
  local elapsed_ms = now_ms - limit.at_ms
  limit.debt = math.max(0, math.min(limit.debt, capacity))
  if elapsed_ms >= 0 then
    if drain > 0 then
      limit.debt = math.max(0, limit.debt - drain * elapsed_ms)
    elseif now_ms >= limit.at_ms - limit.at_ms % period_ms + period_ms then
      limit.debt = 0
    end
  end
  if elapsed_ms >= 0 or limit.debt == 0 or elapsed_ms < -period_ms then limit.at_ms = now_ms end
end

for n = 1, #KEYS, 2 do
  local index, leases = u('<I2I2', asked, at)
  local plan = ARGV[index]
  local count, names, _, ttl_ms = u('<BI2BI4', plan)
  local debts_at, leases_from = at + 4, at + 4 + 8 * count
  at = leases_from + 16 * leases

  local value, keep_at, leases_at = p.split(redis.pcall('GET', KEYS[n]))
  local answer, limits, held, others, own, ends, own_ttl_ms, own_expires_ms, lapse_ms = keep_at, nil, nil
  if value then
    answer, limits = CORRUPT, by.parse(value, keep_at, leases_at)
    held, others, own, ends, own_ttl_ms, own_expires_ms, lapse_ms = read_leases(value, leases_at)
  end
  if limits and held then
    answer = call('SET', KEYS[n + 1], '', 'NX', 'PX', remember_ms) and 1 or 0
  end
  if answer == 1 then
    limits = by.reorder(limits, sub(plan, 25, 24 + names))
    local until_ms = lapse_ms
    for i = 1, count do
      local limit, _, drain, capacity, period_ms = limits[i], u('<dddd', plan, 25 + names + 33 * (i - 1))
      drain_now(limit, drain, capacity, period_ms)
      limit.debt = math.min(capacity, limit.debt + u('<d', asked, debts_at + 8 * (i - 1)))
      local drained_ms = drain > 0 and limit.at_ms + limit.debt / drain
        or limit.at_ms - limit.at_ms % period_ms + period_ms
      until_ms = math.max(until_ms, drained_ms)
    end
    for each = leases_from, at - 16, 16 do
      local sequence, ends_ms = sub(asked, each, each + 5), u('<d', asked, each + 8)
      if ends_ms == 0 then
        if not p.find(own, sequence, 6) then own = own .. sequence end
      elseif ends_ms > now_ms and not p.find(ends, sequence, 14) then
        ends = ends .. sequence .. pack('<i8', ends_ms)
      end
    end
    if leases > 0 then
      own_ttl_ms = math.max(own_ttl_ms, ttl_ms)
      own_expires_ms = now_ms + own_ttl_ms
      until_ms = math.max(until_ms, own_expires_ms)
    end
    local bytes, keep_now_at = by.encode(limits)
    p.write(KEYS[n], bytes, keep_now_at, p.leases(others, own, ends, own_ttl_ms, own_expires_ms), until_ms)
  end
  answers[#answers + 1] = pack('<i8', answer)
end
return table.concat(answers)
