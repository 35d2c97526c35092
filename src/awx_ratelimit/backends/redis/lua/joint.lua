-- Units: see state.lua. Decides claims of one or more records each, in the given order: all records of a claim are
-- charged, or none. Releases leases of the records before.
--
-- KEYS     for each claim, for each record: its key, and if it is in a scope, the index of the scopes of its subject
-- ARGV[1]  time d, owner 16, claims I2; for each claim: sequence I8 (0 is a peek), records B, whether it is declared B;
--          for each record: index of its charge in ARGV I2, leases to release I2, scope (length B, bytes),
--          and for each lease to release: sequence I8
-- others   charges: a plan as in acquire.lua, with the tokens d (below 0: not charged, and it does not refuse) of each
--          rate before `enforced`. A rate with a period of the calendar has drain 0 and, as its period_ms, the negative
--          position of its periods in the argument: see periods.lua.
-- answer   for each claim: time i8; for each record: exceeded limits as bits i8, held i8, and for each rate: debt i8,
--          at_ms i8. A claim that fails has an error code below 0 and ms i8 after the time, and zeros.
--          OTHER_PERIOD: the period of the calendar that contains ms is missing.
--
-- The arithmetic is that of acquire.lua.

local LOOKS, DAY_MS, OTHER_PERIOD = '\0\0\0\0\0\0', 86400000, -4
local ANSWER = '<i8i8i8i8i8i8i8i8i8i8i8i8i8i8i8i8i8i8'
local claims, at = u('<I2', asked, 25)
local next_key, answers, all = 1, {}, {}
local values, periods

-- Reads a record and decides it alone. Returns whether it refuses, or nil, an error code and a time in ms.
local function look(record, key, charge, sequence, released_at, released)
  local count, names, slots_mode, _, slots = u('<BI2BI4d', charge)
  local head, step, first = sub(charge, 25, 24 + names), 25 + names, 1 + names
  local stored, value, kept_ms, open, limits, code = redis.pcall('GET', key), nil, nil, nil, nil, nil
  value = stored
  if not stored then
    value = head .. rep('\0', 16 * count + 10)
  elseif type(stored) == 'table' or sub(stored, 1, names) ~= head or #stored < names + 16 * count + 10 then
    value, kept_ms, open, limits = limit_functions().relaid(stored, head)
    if not value then return nil, kept_ms, 0 end
  end

  local levels, charged, ends_ms = record.levels, record.charged, record.ends_ms
  local exceeded, bit, refused, until_ms, rebased, skipped, missing_ms = 0, 1, false, now_ms, nil, false, 0
  for i = 1, count do
    local unit, drain, capacity, period_ms, tokens = u('<ddddd', charge, step)
    local debt, at_ms = u('<i8i8', value, first)
    local amount, boundary_ms, was_ms = 0, nil, at_ms
    if tokens < 0 then
      skipped = true
      if drain == 0 then
        local its_end_ms
        if period_ms >= 0 then
          its_end_ms = at_ms - at_ms % period_ms + period_ms
        else
          periods = periods or period_functions()
          its_end_ms = periods.end_of(charge, -period_ms, at_ms)
        end
        boundary_ms = its_end_ms or at_ms
      end
    else
      if period_ms < 0 then
        periods = periods or period_functions()
        local left, since_ms, end_ms = periods.drained(charge, -period_ms, debt, at_ms)
        if left then
          debt, at_ms, boundary_ms = left, since_ms, end_ms
        else
          code, missing_ms, boundary_ms = OTHER_PERIOD, since_ms, at_ms
        end
      elseif debt <= 0 then
        debt, at_ms = 0, now_ms
      elseif now_ms < at_ms then
        if at_ms - now_ms > period_ms then at_ms = now_ms end
      else
        if drain > 0 then
          debt = debt - drain * (now_ms - at_ms)
          if debt < 0 then debt = 0 end
        elseif now_ms >= at_ms - at_ms % period_ms + period_ms then
          debt = 0
        end
        at_ms = now_ms
      end
      if at_ms < was_ms and debt > 0 then
        rebased = rebased or {}
        rebased[i] = true
      end
      if tokens > 0 then
        amount = unit * tokens
        if amount > capacity - debt then
          exceeded, amount = exceeded + bit, 0
          if u('B', charge, step + 40) == 1 then refused = true end
        end
      end
      if drain == 0 and period_ms >= 0 then boundary_ms = at_ms - at_ms % period_ms + period_ms end
    end
    debt = debt + amount
    local drained_ms = boundary_ms or at_ms + debt / drain
    if drained_ms > until_ms then until_ms = drained_ms end
    levels[2 * i - 1], levels[2 * i], charged[i], ends_ms[i] = debt, at_ms, amount, boundary_ms or false
    first, step, bit = first + 16, step + 41, bit + bit
  end

  local keep_ms, tail = u('<i8I2', value, first)
  local leases_at, held, others, own, ends, own_ttl_ms, own_expires_ms, lapse_ms, changed = first + 10 + tail, nil
  if leases_at <= #value + 1 then
    held, others, own, ends, own_ttl_ms, own_expires_ms, lapse_ms, changed = read_leases(value, leases_at)
  end
  if not held then return nil, CORRUPT, 0 end
  for each = released_at, released_at + 8 * released - 8, 8 do
    values = values or value_functions()
    local gone, there = sub(asked, each, each + 5), #own + #ends
    own, ends = values.without(own, gone, 6), values.without(ends, gone, 14)
    if #own + #ends < there then
      held, changed = held - 1, true
      -- A new lease must not inherit the ttl of one that ended.
      if #own + #ends == 0 then own_ttl_ms = 0 end
    end
  end
  local takes = false
  if slots_mode > 0 then
    -- A lease that exists already is a retry after a lost reply.
    local again = own ~= '' and find(own, sequence, 1, true) and value_functions().find(own, sequence, 6)
      or ends ~= '' and value_functions().find(ends, sequence, 14)
    if not again and held >= slots then
      exceeded = exceeded + bit
      if slots_mode == 1 then refused = true end
    else
      takes = not again
    end
  end

  record.key, record.charge, record.count, record.head, record.first = key, charge, count, head, first
  record.stored, record.value, record.kept_ms, record.open, record.limits = stored, value, kept_ms, open, limits
  record.exceeded, record.until_ms, record.rebased, record.skipped = exceeded, until_ms, rebased, skipped
  record.keep_ms, record.tail, record.leases_at, record.held, record.others = keep_ms, tail, leases_at, held, others
  record.own, record.ends, record.own_ttl_ms, record.own_expires_ms = own, ends, own_ttl_ms, own_expires_ms
  record.lapse_ms, record.changed, record.takes = lapse_ms, changed, takes
  if code then return nil, code, missing_ms end
  return refused
end

-- Takes the charge out of the levels, and stores what changes although nothing is charged.
local function uncharge(record, failed)
  local levels, charged, until_ms = record.levels, record.charged, 0
  for i = 1, record.count do
    local debt = levels[2 * i - 1] - charged[i]
    levels[2 * i - 1] = debt
    if debt > 0 then
      local drained_ms = record.ends_ms[i] or levels[2 * i] + debt / u('<d', record.charge, 33 + #record.head + 41 * (i - 1))
      if drained_ms > until_ms then until_ms = drained_ms end
    end
  end
  if failed then until_ms = 0 end
  if record.stored and (record.changed or record.rebased or until_ms > (record.kept_ms or record.keep_ms)) then
    local leases = value_functions().leases(
      record.others, record.own, record.ends, record.own_ttl_ms, record.own_expires_ms)
    local rebased = not failed and record.rebased or {}
    local kept_until_ms = until_ms > record.lapse_ms and until_ms or record.lapse_ms
    return limit_functions().store_uncharged(record.key, record.stored, record.head, rebased, leases, kept_until_ms)
  end
end

local function take_slot(record, sequence)
  local _, _, _, ttl_ms, _, max_hold_ms = u('<BI2BI4dd', record.charge)
  record.held = record.held + 1
  if max_hold_ms > 0 then
    record.ends = record.ends .. sequence .. pack('<i8', now_ms + max_hold_ms)
  else
    record.own = record.own .. sequence
  end
  if ttl_ms > record.own_ttl_ms then record.own_ttl_ms = ttl_ms end
  record.own_expires_ms = now_ms + record.own_ttl_ms
  if record.own_expires_ms > record.lapse_ms then record.lapse_ms = record.own_expires_ms end
end

-- The bytes of the open claims after a charge; of a declared claim with its `id`.
local function open_claims(record, id)
  local by = open_functions()
  local open, debts = by.parse(record.open or ''), {}
  local limits = limit_functions().names(record.head, 5, #record.head, 0)
  for i, limit in ipairs(limits) do
    local was = record.limits and record.limits[i].was
    local _, tokens = u('<dd', record.charge, 25 + #record.head + 41 * (i - 1) + 24)
    if tokens >= 0 then
      if was and (was.unit ~= limit.unit or was.capacity ~= limit.capacity) then by.forget(open, limit.name) end
      if record.exceeded % 2 ^ i < 2 ^ (i - 1) then
        by.note(open, limit.name, record.levels[2 * i - 1] - record.charged[i])
        debts[#debts + 1], debts[#debts + 2] = limit.name, record.levels[2 * i - 1]
      end
    end
  end
  if id and #debts > 0 then by.add(open, id, debts) end
  return by.encode(open)
end

-- Stores a charged record. Returns the time until which it is kept if that is a new one.
local function store(record, levels_bytes, id)
  local open, until_ms, keep_ms = record.open, record.until_ms, record.keep_ms
  if id or open and open ~= '' then open = open_claims(record, id) end
  if record.lapse_ms > until_ms then until_ms = record.lapse_ms end
  local own, ends = record.own, record.ends
  if record.limits then
    -- A limit that the claim does not name keeps the numbers that it was charged by.
    local by, limits = limit_functions(), record.limits
    for i = 1, record.count do
      local limit = limits[i]
      limit.debt, limit.at_ms = record.levels[2 * i - 1], record.levels[2 * i]
      if limit.was and u('<d', record.charge, 25 + #record.head + 41 * (i - 1) + 32) < 0 then limits[i] = limit.was end
    end
    limits.keep_ms = record.skipped and record.kept_ms or 0
    local bytes, keep_at = by.encode(limits)
    local p = value_functions()
    local leases = p.leases(record.others, own, ends, record.own_ttl_ms, record.own_expires_ms)
    return p.write(record.key, bytes, keep_at, leases, until_ms, open or '')
  end
  -- Setting an expiry costs as much as the value, so it moves in steps. One far ahead came from a wrong clock.
  if record.skipped and keep_ms > until_ms then until_ms = keep_ms - MARGIN_MS end
  local lasts = server_time and until_ms + MARGIN_MS <= keep_ms and keep_ms <= until_ms + DAY_MS
  if not lasts then keep_ms = math.ceil(until_ms) + 2 * MARGIN_MS end
  local format = (own ~= '' or ends ~= '') and '<c0c0i8I2c0c0c16i8I4I3I3c0c0' or '<c0c0i8I2c0c0'
  local first, tail = record.first, record.tail
  local value = pack(format, record.head, levels_bytes, keep_ms, tail, sub(record.value, first + 10, record.leases_at - 1),
    record.others, owner, record.own_expires_ms, record.own_ttl_ms, #own / 6, #ends / 14, own, ends)
  local longest_ms = keep_ms
  if not lasts and tail > 0 then
    longest_ms = math.max(keep_ms, value_functions().tail_keep_ms(value, first + 10, record.leases_at - 1))
  end
  if open and open ~= '' then value = open .. value end
  if lasts then
    call('SET', record.key, value, 'KEEPTTL')
    return nil
  end
  call('SET', record.key, value, 'PX', math.min(longest_ms - now_ms, EXACT))
  return longest_ms
end

for n = 1, claims do
  local sequence, count, declared = sub(asked, at, at + 5), u('<BB', asked, at + 8)
  at = at + 10
  local refused, failure, failure_ms, size = sequence == LOOKS, nil, 0, 0
  for r = 1, count do
    local record = all[r]
    if not record then
      record = { levels = {}, charged = {}, ends_ms = {} }
      all[r] = record
    end
    local index, released, scope_bytes = u('<I2I2B', asked, at)
    local key, charge, released_at = KEYS[next_key], ARGV[index], at + 5 + scope_bytes
    record.index_key = nil
    if scope_bytes > 0 then
      record.scope, record.index_key = sub(asked, at + 5, released_at - 1), KEYS[next_key + 1]
      next_key = next_key + 1
    end
    next_key, at, size = next_key + 1, released_at + 8 * released, size + 16 + 16 * string.byte(charge)
    record.charge = nil
    local refuses, code, ms = look(record, key, charge, sequence, released_at, released)
    if refuses then
      refused = true
    elseif refuses == nil and not failure then
      failure, failure_ms = code, ms
    end
  end

  local answer = { pack('<i8', now_ms) }
  for r = 1, count do
    local record = all[r]
    local kept_until_ms
    if failure then
      if record.charge then kept_until_ms = uncharge(record, true) end
    else
      if refused then kept_until_ms = uncharge(record) elseif record.takes then take_slot(record, sequence) end
      local format = record.count <= 8 and sub(ANSWER, 1, 5 + 4 * record.count) or '<' .. rep('i8', 2 + 2 * record.count)
      local bytes = pack(format, record.exceeded, record.held, unpack(record.levels, 1, 2 * record.count))
      answer[r + 1] = bytes
      if not refused then
        kept_until_ms = store(record, sub(bytes, 17), declared == 1 and owner .. sequence or nil)
      end
    end
    if kept_until_ms and record.index_key then value_functions().index(record.index_key, record.scope, kept_until_ms) end
  end
  answers[n] = failure and pack('<i8i8i8', now_ms, failure, failure_ms) .. rep('\0', size - 16) or table.concat(answer)
end
return table.concat(answers)
