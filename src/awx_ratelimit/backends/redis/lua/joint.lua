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
--          OTHER_PERIOD: the period of the calendar that contains ms is missing. SLOT_MOVES: send it again.
--
-- The arithmetic is that of acquire.lua.

local LOOKS, DAY_MS, OTHER_PERIOD, SLOT_MOVES = '\0\0\0\0\0\0', 86400000, -4, -5
local ANSWER = '<i8i8i8i8i8i8i8i8i8i8i8i8i8i8i8i8i8i8'
local claims, at = u('<I2', asked, 25)
local next_key, answers, rare, levels = 1, {}, nil, { 0, 0, 0, 0, 0, 0 }

for n = 1, claims do
  local sequence, count, declared = sub(asked, at, at + 5), u('<BB', asked, at + 8)
  local refused, failure, failure_ms, size = sequence == LOOKS, nil, 0, 8
  local from, first_key, refusing, answer = at + 10, next_key, refused, nil
  local writes = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

  -- In the first turn, every record is charged, and nothing is written. If a limit refuses, there is a second turn, in
  -- which nothing is charged. A peek has only the latter.
  repeat
    at, next_key, answer, size = from, first_key, { pack('<i8', now_ms) }, 8
    refusing = refused or failure
    for r = 1, count do
      local index, released, scope_bytes = u('<I2I2B', asked, at)
      local key, charge, index_key, scope = KEYS[next_key], ARGV[index], nil, nil
      at = at + 5
      if scope_bytes > 0 then
        next_key = next_key + 1
        index_key, scope, at = KEYS[next_key], sub(asked, at, at + scope_bytes - 1), at + scope_bytes
      end
      next_key = next_key + 1
      local rates, names, slots_mode, ttl_ms, slots, max_hold_ms = u('<BI2BI4dd', charge)
      local head, step, first = sub(charge, 25, 24 + names), 25 + names, 1 + names
      size = size + 16 + 16 * rates

      -- The value in the layout of this plan, which nearly every value already has.
      local stored, wrong, kept_ms, open, limits = read(key), nil, nil, nil, nil
      local value = stored
      if not stored then
        value = head .. rep('\0', 16 * rates + 10)
      elseif type(stored) == 'table' or sub(stored, 1, names) ~= head or #stored < names + 16 * rates + 10 then
        rare = rare or rare_functions()
        value, kept_ms, open, limits = rare.limits.relaid(stored, head)
        wrong = not value and kept_ms
      end

      -- For each rate: the debt now, plus the charge if it fits.
      local exceeded, bit, until_ms, rebased, skipped = 0, 1, now_ms, nil, false
      for i = 1, wrong and 0 or rates do
        local unit, drain, capacity, period_ms, tokens = u('<ddddd', charge, step)
        local debt, at_ms = u('<i8i8', value, first)
        local end_ms
        if tokens < 0 then
          skipped = true
        elseif period_ms < 0 then
          rare = rare or rare_functions()
          local left, since_ms, its_end_ms = rare.periods.drained(charge, -period_ms, debt, at_ms)
          if not left then
            if not failure then failure, failure_ms = OTHER_PERIOD, since_ms end
            left, since_ms, its_end_ms = debt, at_ms, now_ms
          end
          if since_ms < at_ms and left > 0 then
            rebased = rebased or {}
            rebased[i] = true
          end
          debt, at_ms, end_ms = left, since_ms, its_end_ms
        elseif debt <= 0 then
          debt, at_ms = 0, now_ms
        elseif now_ms < at_ms then
          if at_ms - now_ms > period_ms then
            rebased, at_ms = rebased or {}, now_ms
            rebased[i] = true
          end
        else
          if drain > 0 then
            debt = debt - drain * (now_ms - at_ms)
            if debt < 0 then debt = 0 end
          elseif now_ms >= at_ms - at_ms % period_ms + period_ms then
            debt = 0
          end
          at_ms = now_ms
        end
        if tokens > 0 then
          if unit * tokens > capacity - debt then
            exceeded = exceeded + bit
            refused = refused or u('B', charge, step + 40) == 1
          elseif not refusing then
            debt = debt + unit * tokens
          end
        end
        if drain > 0 then
          end_ms = at_ms + debt / drain
        elseif not end_ms then
          rare = rare or rare_functions()
          end_ms = rare.period_end(charge, step, at_ms)
        end
        if end_ms > until_ms and (debt > 0 or not refusing) then until_ms = end_ms end
        levels[2 * i - 1], levels[2 * i] = debt, at_ms
        first, step, bit = first + 16, step + 41, bit + bit
      end

      local held, others, own, ends, own_ttl_ms, own_expires_ms, lapse_ms, changed = 0, '', '', '', 0, 0, 0, false
      local keep_ms, tail, leases_at = 0, 0, 0
      if not wrong then
        keep_ms, tail = u('<i8I2', value, first)
        leases_at = first + 10 + tail
        if leases_at <= #value then
          held, others, own, ends, own_ttl_ms, own_expires_ms, lapse_ms, changed = read_leases(value, leases_at)
        end
        if not held or leases_at > #value + 1 then wrong = CORRUPT end
      end
      if wrong then
        if not failure then failure = wrong end
        at = at + 8 * released
      else
        for each = at, at + 8 * released - 8, 8 do
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
        at = at + 8 * released
        if slots_mode > 0 then
          -- A lease that exists already is a retry after a lost reply.
          local again = own ~= '' and find(own, sequence, 1, true) and value_functions().find(own, sequence, 6)
            or ends ~= '' and value_functions().find(ends, sequence, 14)
          if not again and held >= slots then
            exceeded = exceeded + bit
            refused = refused or slots_mode == 1
          elseif not again and not refusing then
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
        local format = rates <= 8 and sub(ANSWER, 1, 5 + 4 * rates) or '<' .. rep('i8', 2 + 2 * rates)
        local bytes = pack(format, exceeded, held, unpack(levels, 1, 2 * rates))
        answer[r + 1] = bytes

        if refusing then
          if failure then until_ms, rebased = 0, nil end
          if stored and (changed or rebased or until_ms > now_ms and until_ms > (kept_ms or keep_ms)) then
            rare = rare or rare_functions()
            local leases = value_functions().leases(others, own, ends, own_ttl_ms, own_expires_ms)
            local kept_until_ms = rare.limits.store_uncharged(
              key, stored, head, rebased or {}, leases, until_ms > lapse_ms and until_ms or lapse_ms)
            if kept_until_ms and index_key then value_functions().index(index_key, scope, kept_until_ms) end
          end
        elseif not refused then
          if declared == 1 or open and open ~= '' then
            rare = rare or rare_functions()
            if stored and (open or '') == '' and not rare.can_be_hash(key) then failure = failure or SLOT_MOVES end
            local id = declared == 1 and owner .. sequence or nil
            open = rare.open_claims(open or '', key, id, charge, head, limits, levels, exceeded)
          else
            open = nil
          end
          if lapse_ms > until_ms then until_ms = lapse_ms end
          local kept_until_ms, next_value = false, nil
          if limits then
            next_value, kept_until_ms = rare.relaid_value(charge, head, limits, levels, skipped and kept_ms or 0, until_ms)
            next_value = next_value .. value_functions().leases(others, own, ends, own_ttl_ms, own_expires_ms)
          else
            -- Setting an expiry costs as much as the value, so it moves in steps. One far ahead came from a wrong clock.
            if skipped and keep_ms - MARGIN_MS > until_ms then until_ms = keep_ms - MARGIN_MS end
            if not server_time or until_ms + MARGIN_MS > keep_ms or keep_ms > until_ms + DAY_MS or open and not open.was then
              keep_ms = math.ceil(until_ms) + 2 * MARGIN_MS
              kept_until_ms = tail == 0 and keep_ms
                or math.max(keep_ms, value_functions().tail_keep_ms(value, first + 10, leases_at - 1))
            end
            if kept_until_ms then
              next_value = head .. sub(bytes, 17) .. pack('<i8', keep_ms) .. sub(value, first + 8, leases_at - 1) .. others
            else
              next_value = head .. sub(bytes, 17) .. sub(value, first, leases_at - 1) .. others
            end
            if own ~= '' or ends ~= '' then
              next_value = next_value .. owner .. pack('<i8I4I3I3', own_expires_ms, own_ttl_ms, #own / 6, #ends / 14)
                .. own .. ends
            end
          end
          local place = 6 * r - 5
          writes[place], writes[place + 1], writes[place + 2] = key, next_value, kept_until_ms
          writes[place + 3], writes[place + 4], writes[place + 5] = index_key or false, scope, open or false
        end
      end
    end
  until refusing or not refused and not failure

  if not refusing then
    for place = 1, 6 * count, 6 do
      local kept_until_ms, index_key, open = writes[place + 2], writes[place + 3], writes[place + 5]
      local lasts_ms = kept_until_ms and math.min(kept_until_ms - now_ms, EXACT)
      if open then
        value_functions().put(writes[place], writes[place + 1], open, lasts_ms)
      elseif not lasts_ms then
        call('SET', writes[place], writes[place + 1], 'KEEPTTL')
      else
        call('SET', writes[place], writes[place + 1], 'PX', lasts_ms)
      end
      if kept_until_ms and index_key then value_functions().index(index_key, writes[place + 4], kept_until_ms) end
    end
  end
  if failure then
    answers[n] = pack('<i8i8i8', now_ms, failure, failure_ms) .. rep('\0', size - 24)
  else
    answers[n] = table.concat(answer)
  end
end
return claims == 1 and answers[1] or table.concat(answers)
