-- Units: see state.lua. Adds the debts and leases of a fallback while the server was unavailable. Refuses nothing.
--
-- KEYS     for each entry: the key of its record, the key that notes that this was done, and if the record is in a scope,
--          the index of the scopes of its subject
-- ARGV[1]  time d, owner 16, how long to keep that note in ms d; for each entry: index of its plan in ARGV I2, leases I2,
--          scope (length B, bytes), for each rate of the plan: debt d, and for each lease: sequence I8, ends_ms d (0 is
--          never)
-- others   plans, as in acquire.lua; a rate with a period of the calendar is as in joint.lua
-- answer   for each entry, i8: 1, 0 if it was done before, or an error code below 0

local p, by, answers, at = value_functions(), limit_functions(), {}, 33
local remember_ms = u('<d', asked, 25)
local key_at, opens = 1, open_functions()

-- Drains a limit to now, and returns the end of its period if it is a calendar rate. Where the server's clock has left
-- the period that the client has sent, that period counts: the moment of an outage is not known that well either.
local function drain_now(plan, limit, drain, period_ms)
  local elapsed_ms, end_ms = now_ms - limit.at_ms, nil
  limit.debt = math.max(0, limit.debt)
  if period_ms < 0 then
    local start_ms
    start_ms, end_ms = u('<dd', plan, -period_ms)
    period_ms = end_ms - start_ms
    if elapsed_ms >= 0 and limit.at_ms < start_ms then limit.debt = 0 end
  elseif elapsed_ms >= 0 then
    if drain > 0 then
      limit.debt = math.max(0, limit.debt - drain * elapsed_ms)
    elseif now_ms >= limit.at_ms - limit.at_ms % period_ms + period_ms then
      limit.debt = 0
    end
  end
  if elapsed_ms >= 0 or limit.debt == 0 or elapsed_ms < -period_ms then limit.at_ms = now_ms end
  return end_ms or drain == 0 and limit.at_ms - limit.at_ms % period_ms + period_ms
end

while key_at <= #KEYS do
  local index, leases, scope_bytes = u('<I2I2B', asked, at)
  local plan, key, done_key, index_key = ARGV[index], KEYS[key_at], KEYS[key_at + 1], nil
  key_at = key_at + 2
  if scope_bytes > 0 then index_key, key_at = KEYS[key_at], key_at + 1 end
  local count, names, _, ttl_ms = u('<BI2BI4', plan)
  local scope, debts_at = sub(asked, at + 5, at + 4 + scope_bytes), at + 5 + scope_bytes
  local leases_from = debts_at + 8 * count
  at = leases_from + 16 * leases

  local value, keep_at, leases_at, open = p.split(read(key))
  local answer, limits, held, others, own, ends, own_ttl_ms, own_expires_ms, lapse_ms = keep_at, nil, nil
  if value then
    answer, limits = CORRUPT, by.parse(value, keep_at, leases_at)
    held, others, own, ends, own_ttl_ms, own_expires_ms, lapse_ms = read_leases(value, leases_at)
  end
  if limits and held then
    answer = call('SET', done_key, '', 'NX', 'PX', remember_ms) and 1 or 0
  end
  if answer == 1 then
    limits = by.reorder(limits, sub(plan, 25, 24 + names))
    local until_ms, claims = lapse_ms, opens.parse(open, key)
    for i = 1, count do
      local limit, _, drain, capacity, period_ms = limits[i], u('<dddd', plan, 25 + names + 33 * (i - 1))
      local was, owed = limit.was, u('<d', asked, debts_at + 8 * (i - 1))
      if owed == 0 and was then
        -- Perhaps the claims of the outage did not name it.
        limits[i], limits.keep_ms = was, math.max(limits.keep_ms, was.keep_ms)
      else
        local end_ms = drain_now(plan, limit, drain, period_ms)
        if was and (was.unit ~= limit.unit or was.capacity ~= limit.capacity) then opens.forget(claims, limit.name) end
        opens.note(claims, limit.name, limit.debt)
        limit.debt = math.max(limit.debt, math.min(capacity, limit.debt + owed))
        until_ms = math.max(until_ms, end_ms or limit.at_ms + limit.debt / drain)
      end
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
    local written = p.leases(others, own, ends, own_ttl_ms, own_expires_ms)
    local kept_until_ms = p.write(key, bytes, keep_now_at, written, until_ms, opens.encode(claims))
    if kept_until_ms and index_key then p.index(index_key, scope, kept_until_ms) end
  end
  answers[#answers + 1] = pack('<i8', answer)
end
return table.concat(answers)
