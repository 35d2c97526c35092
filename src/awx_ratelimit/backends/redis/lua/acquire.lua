-- Units: see state.lua. Releases leases, then decides claims, each in the given order. Answers the claims.
--
-- KEYS     the subject of each lease to release, then of each claim
-- ARGV[1]  time d, owner 16, releases I2; for each release: sequence I8; for each claim: sequence I8 (0 is a peek),
--          cost d, index of its plan in ARGV I2, leases of its subject to release first I2, for each: sequence I8
-- others   plans: rates B, bytes of head I2, slots mode (0 none, 1 enforced, 2 shadow) B, ttl_ms I4, slots d,
--          max_hold_ms d (0 is none), the head that a charge by this plan leaves, and for each rate: unit d,
--          drain d (0 is calendar), capacity d, period_ms d, enforced B
-- answer   for each claim: time i8, exceeded limits as bits i8 (below 0: an error code), held i8, and for each rate:
--          debt i8, at_ms i8
--
-- The arithmetic is exact. Only products exceed 2^53. Such a product is at least 2^53 however it is rounded, and the
-- number that it is compared with or subtracted from is not larger. Times stay within 2^52, where `%` is exact too.

local LOOKS, DAY_MS, ANSWER = '\0\0\0\0\0\0', 86400000, '<i8i8i8i8i8i8i8i8i8i8i8i8i8i8i8i8i8i8i8'
local releases, at = u('<I2', asked, 25), 27

if releases > 0 then
  local t = value_functions()
  for i = 1, releases do
    local sequence, value, keep_at, leases_at, open = sub(asked, at, at + 5), t.split(read(KEYS[i]))
    at = at + 8
    local held, others, own, ends, ttl_ms, expires_ms, _, changed
    if value then held, others, own, ends, ttl_ms, expires_ms, _, changed = read_leases(value, leases_at) end
    if held then
      local left, ending = t.without(own, sequence, 6), t.without(ends, sequence, 14)
      if changed or left ~= own or ending ~= ends then
        local leases = t.leases(others, left, ending, ttl_ms, expires_ms)
        t.write(KEYS[i], sub(value, 1, leases_at - 1), keep_at, leases, 0, open)
      end
    end
  end
end

local levels, answers = { 0, 0, 0, 0, 0, 0, 0, 0 }, {}
for n = releases + 1, #KEYS do
  local key, sequence, cost, index, freed = KEYS[n], sub(asked, at, at + 5), u('<dI2I2', asked, at + 8)
  local plan, freed_at = ARGV[index], at + 20
  local count, names, slots_mode, ttl_ms, slots, max_hold_ms = u('<BI2BI4dd', plan)
  local head, step, first = sub(plan, 25, 24 + names), 25 + names, 1 + names
  at = freed_at + 8 * freed

  -- The value in the layout of this plan, which nearly every value already has.
  local stored, wrong, kept_ms, open, limits = read(key), nil, nil, nil, nil
  local value = stored
  if not stored then
    value = head .. rep('\0', 16 * count + 10)
  elseif type(stored) == 'table' or sub(stored, 1, names) ~= head or #stored < names + 16 * count + 10 then
    value, kept_ms, open, limits = rare_functions().relaid(stored, head)
    wrong = not value and kept_ms
  end

  -- For each rate: the debt now, plus the charge if it fits.
  local exceeded, bit, refused, until_ms, rebased = 0, 1, sequence == LOOKS, now_ms, nil
  for i = 1, wrong and 0 or count do
    local unit, drain, capacity, period_ms = u('<dddd', plan, step)
    local debt, at_ms = u('<i8i8', value, first)
    local elapsed_ms = now_ms - at_ms
    if debt <= 0 then
      debt, at_ms = 0, now_ms
    elseif elapsed_ms < 0 then
      if elapsed_ms < -period_ms then
        rebased, at_ms = rebased or {}, now_ms
        rebased[i] = true
      end
    else
      if drain > 0 then
        debt = debt - drain * elapsed_ms
        if debt < 0 then debt = 0 end
      elseif now_ms >= at_ms - at_ms % period_ms + period_ms then
        debt = 0
      end
      at_ms = now_ms
    end
    if cost > 0 and unit * cost > capacity - debt then
      exceeded = exceeded + bit
      refused = refused or u('B', plan, step + 32) == 1
    else
      debt = debt + unit * cost
    end
    local drained_ms = drain > 0 and at_ms + debt / drain or at_ms - at_ms % period_ms + period_ms
    if drained_ms > until_ms then until_ms = drained_ms end
    levels[2 * i - 1], levels[2 * i] = debt, at_ms
    first, step, bit = first + 16, step + 33, bit + bit
  end

  local held, others, own, ends, own_ttl_ms, own_expires_ms, lapse_ms, changed, keep_ms, tail, leases_at
  if not wrong then
    keep_ms, tail = u('<i8I2', value, first)
    leases_at = first + 10 + tail
    if leases_at <= #value + 1 then
      held, others, own, ends, own_ttl_ms, own_expires_ms, lapse_ms, changed = read_leases(value, leases_at)
    end
  end
  if not held then
    answers[n - releases] = pack('<i8i8i8', now_ms, wrong or CORRUPT, 0) .. rep('\0', 16 * count)
  else
    for each = freed_at, at - 8, 8 do
      local gone, there = sub(asked, each, each + 5), #own + #ends
      local found = find(own, gone, 1, true)
      if found and found % 6 == 1 then
        own = sub(own, 1, found - 1) .. sub(own, found + 6)
      elseif found or find(ends, gone, 1, true) then
        own, ends = value_functions().without(own, gone, 6), value_functions().without(ends, gone, 14)
      end
      if #own + #ends < there then
        held, changed = held - 1, true
        -- A new lease must not inherit the ttl of one that ended.
        if #own + #ends == 0 then own_ttl_ms = 0 end
      end
    end
    if slots_mode > 0 then
      -- A lease that exists already is a retry after a lost reply.
      local again = own ~= '' and find(own, sequence, 1, true) and value_functions().find(own, sequence, 6)
        or ends ~= '' and value_functions().find(ends, sequence, 14)
      if not again and held >= slots then
        exceeded = exceeded + bit
        refused = refused or slots_mode == 1
      elseif not again and not refused then
        held = held + 1
        if max_hold_ms > 0 then
          ends = ends .. sequence .. pack('<i8', now_ms + max_hold_ms)
        else
          own = own .. sequence
        end
        if ttl_ms > own_ttl_ms then own_ttl_ms = ttl_ms end
        own_expires_ms = now_ms + own_ttl_ms
        if own_expires_ms > lapse_ms then lapse_ms = own_expires_ms end
      end
    end

    if refused then
      until_ms, bit, step = 0, 1, 25 + names
      for i = 1, count do
        local unit, drain, _, period_ms = u('<dddd', plan, step)
        local debt, at_ms = levels[2 * i - 1], levels[2 * i]
        if exceeded % (bit + bit) < bit then debt = debt - unit * cost end
        if debt > 0 then
          local drained_ms = drain > 0 and at_ms + debt / drain or at_ms - at_ms % period_ms + period_ms
          if drained_ms > until_ms then until_ms = drained_ms end
        end
        levels[2 * i - 1], step, bit = debt, step + 33, bit + bit
      end
      if stored and (changed or rebased or until_ms > (kept_ms or keep_ms)) then
        local leases = value_functions().leases(others, own, ends, own_ttl_ms, own_expires_ms)
        local kept_until_ms = until_ms > lapse_ms and until_ms or lapse_ms
        rare_functions().store_uncharged(key, stored, head, rebased or {}, leases, kept_until_ms)
      end
    end

    local format = count <= 8 and sub(ANSWER, 1, 7 + 4 * count) or '<' .. rep('i8', 3 + 2 * count)
    local answer = pack(format, now_ms, exceeded, held, unpack(levels, 1, 2 * count))
    if not refused then
      if lapse_ms > until_ms then until_ms = lapse_ms end
      -- Setting an expiry costs as much as the value, so it moves in steps. One far ahead came from a wrong clock.
      local lasts = server_time and until_ms + MARGIN_MS <= keep_ms and keep_ms <= until_ms + DAY_MS
      if not lasts then keep_ms = math.ceil(until_ms) + 2 * MARGIN_MS end
      format = (own ~= '' or ends ~= '') and '<c0c0i8I2c0c0c16i8I4I3I3c0c0' or '<c0c0i8I2c0c0'
      value = pack(format, head, sub(answer, 25), keep_ms, tail, sub(value, first + 10, leases_at - 1), others,
        owner, own_expires_ms, own_ttl_ms, #own / 6, #ends / 14, own, ends)
      local longest_ms = keep_ms
      if not lasts and tail > 0 then
        longest_ms = math.max(keep_ms, value_functions().tail_keep_ms(value, first + 10, leases_at - 1))
      end
      if open and open ~= '' then
        local rare = rare_functions()
        local named = rare.names(head, 5, #head, 0)
        open = rare.open_claims().charged(open, key, limits, named, levels, exceeded, cost)
        value_functions().put(key, value, open, not lasts and math.min(longest_ms - now_ms, EXACT) or nil)
      elseif lasts then
        call('SET', key, value, 'KEEPTTL')
      else
        call('SET', key, value, 'PX', math.min(longest_ms - now_ms, EXACT))
      end
    end
    if #KEYS == 1 then return answer end
    answers[n - releases] = answer
  end
end
return table.concat(answers)
