-- Units: see state.lua. Limits by name, for plans that have changed. Nearly every claim does without this.

local limit_made
local function limit_functions()
  if limit_made then return limit_made end
  local t = {}
  limit_made = t
  -- With more limits than MANY, drained limits are dropped.
  local MANY, MOST = 8, 255

  -- a * b / c rounded down, and 1 if there is a remainder, for integers up to 2^53. Exact if the result is at most
  -- 2^53; a larger result is at least 2^53.
  function t.scaled(a, b, c)
    if a * b < EXACT then
      local rest = math.fmod(a * b, c)
      return (a * b - rest) / c, rest > 0 and 1 or 0
    end
    -- Bit by bit of b: part * c + left is rest times the bits so far. No sum exceeds c, so none is rounded.
    local rest = math.fmod(a, c)
    local whole, part, left, bit = (a - rest) / c * b, 0, 0, EXACT
    while bit >= 1 do
      part = part + part
      if left >= c - left then part, left = part + 1, left - (c - left) else left = left + left end
      if b >= bit then
        b = b - bit
        if left >= c - rest then part, left = part + 1, left - (c - rest) else left = left + rest end
      end
      bit = bit / 2
    end
    return whole + part, left > 0 and 1 or 0
  end

  -- A limit from the numbers at `at`, and where they end; nil if they are corrupt. Its `drain` is 0 for calendar rates.
  -- Those with a period of the calendar have a `calendar`, all others a `period_ms`.
  local function numbers_at(value, at)
    local sizes = string.byte(value, at) or 0
    local n = sizes % 8
    local m = (sizes % 64 - n) / 8
    local after = at + 1 + m + n
    if m == 0 or n == 0 or after > #value + 1 then return nil end
    local unit, burst = u('<I' .. m .. 'I' .. n, value, at + 1)
    if unit < 1 or burst < 1 or unit > EXACT or burst * unit > EXACT then return nil end
    local limit = { unit = unit, capacity = burst * unit, drain = 0 }
    if sizes < 128 then
      if sizes < 64 then limit.drain = burst end
      limit.period_ms = unit
    elseif sizes < 192 then
      local bytes = string.byte(value, after) or #value
      after = after + 1 + bytes
      limit.calendar = sub(value, after - bytes, after - 1)
    else
      after = after + 16
      if after > #value + 1 then return nil end
      limit.drain, limit.period_ms = u('<i8i8', value, after - 16)
      local drain, period_ms = limit.drain, limit.period_ms
      if drain < 0 or drain > EXACT or period_ms < 1 or period_ms > EXACT then return nil end
    end
    return limit, after
  end

  -- The limits (length, name, numbers) from `at` to `last`, with `more` bytes after each; nil if they are corrupt.
  function t.names(value, at, last, more)
    local limits = {}
    while at <= last do
      local name_end = at + string.byte(value, at)
      local limit, after = numbers_at(value, name_end + 1)
      if not limit or after + more > last + 1 then return nil end
      limit.name, limit.numbers = sub(value, at, name_end), sub(value, name_end + 1, after - 1)
      limit.levels_at, limits[#limits + 1] = after, limit
      at = after + more
    end
    return limits
  end

  -- All limits of a value, first the `front` limits of the last charge; nil if they are corrupt.
  function t.parse(value, keep_at, leases_at)
    local _, front, names = u('<BBI2', value)
    local limits = t.names(value, 5, 4 + names, 0)
    local tail = t.names(value, keep_at + 10, leases_at - 1, 24)
    if not limits or not tail or #limits ~= front then return nil end
    local keep_ms = u('<i8', value, keep_at)
    for i, limit in ipairs(limits) do
      limit.debt, limit.at_ms = u('<i8i8', value, 16 * i - 11 + names)
      limit.keep_ms = keep_ms
    end
    for i, limit in ipairs(tail) do
      limit.debt, limit.at_ms, limit.keep_ms = u('<i8i8i8', value, limit.levels_at)
      limits[front + i] = limit
    end
    limits.front, limits.keep_ms = front, keep_ms
    return limits
  end

  -- The debt of a limit without a `calendar` now and its time, and the end of a calendar rate's period.
  function t.drained(limit)
    local drain, debt, at_ms, period_ms = limit.drain, limit.debt, limit.at_ms, limit.period_ms
    if debt <= 0 then
      debt, at_ms = 0, now_ms
    elseif now_ms < at_ms then
      if at_ms - now_ms > period_ms then at_ms = now_ms end
    else
      if drain > 0 then
        debt = math.max(0, debt - drain * (now_ms - at_ms))
      elseif now_ms >= at_ms - at_ms % period_ms + period_ms then
        debt = 0
      end
      at_ms = now_ms
    end
    return debt, at_ms, drain == 0 and at_ms - at_ms % period_ms + period_ms or nil
  end

  -- The bytes of these limits, and the position of keep_ms in them.
  function t.encode(limits)
    local names, levels, tail = '', '', ''
    for i, limit in ipairs(limits) do
      local name = limit.name .. limit.numbers
      if i <= limits.front then
        names, levels = names .. name, levels .. pack('<i8i8', limit.debt, limit.at_ms)
      else
        tail = tail .. name .. pack('<i8i8i8', limit.debt, limit.at_ms, limit.keep_ms)
      end
    end
    local before = pack('<BBI2', VERSION, limits.front, #names) .. names .. levels
    return before .. pack('<i8I2', limits.keep_ms, #tail) .. tail, #before + 1
  end

  -- The debt of `was` in the unit of `limit`: rounded up, and at most its capacity. It is unchanged, even beyond the
  -- capacity, where both are counted equally.
  function t.converted(was, limit)
    if was.unit == limit.unit and was.capacity == limit.capacity then return was.debt end
    local debt, more = was.debt, 0
    if was.unit ~= limit.unit then debt, more = t.scaled(debt, limit.unit, was.unit) end
    return math.min(debt + more, limit.capacity)
  end

  -- The same limits, first those of `head` in its units. The others stay until they have drained. Each limit of `head`
  -- that was known has the known one in `was`.
  function t.reorder(limits, head)
    local known, arranged, rest = {}, t.names(head, 5, #head, 0), #limits
    -- Their keep_ms is set when they have been charged.
    arranged.front, arranged.keep_ms = #arranged, 0
    for _, limit in ipairs(limits) do known[limit.name] = limit end
    for _, limit in ipairs(arranged) do
      local was = known[limit.name]
      limit.debt, limit.at_ms = 0, 0
      if was then
        limit.debt, limit.at_ms, limit.was, was.named, rest = t.converted(was, limit), was.at_ms, was, true, rest - 1
      end
    end
    for _, limit in ipairs(limits) do
      if not limit.named and #arranged < MOST and (rest <= MANY or limit.keep_ms > now_ms) then
        arranged[#arranged + 1] = limit
      end
    end
    return arranged
  end

  -- A stored value in the layout that a charge by the plan of `head` leaves, the time until which it is kept (nil if
  -- that is unchanged), its open claims, and its limits (nil if it had that layout). Returns nil and a code if it is not
  -- a valid value.
  function t.relaid(stored, head)
    local p = value_functions()
    local value, keep_at, leases_at, open = p.split(stored)
    if not value then return nil, keep_at end
    if sub(value, 1, #head) == head then return value, nil, open end
    local limits = t.parse(value, keep_at, leases_at)
    if not limits then return nil, CORRUPT end
    local keep_ms = math.max(limits.keep_ms, p.tail_keep_ms(value, keep_at + 10, leases_at - 1))
    limits = t.reorder(limits, head)
    return t.encode(limits) .. sub(value, leases_at), keep_ms, open, limits
  end

  -- Stores the changes of a refusal or a peek: debts of `head` whose time is reset to now (`rebased`, by their number),
  -- dropped leases, and the time to keep the debts that the answer reported. Returns what `write` does.
  function t.store_uncharged(key, stored, head, rebased, leases, until_ms)
    local p, known = value_functions(), {}
    local value, keep_at, leases_at, open = p.split(stored)
    local limits = t.parse(value, keep_at, leases_at)
    if not limits then return end
    for i, limit in ipairs(t.names(head, 5, #head, 0)) do known[limit.name] = i end
    for _, limit in ipairs(limits) do
      local i = known[limit.name]
      if i and rebased[i] then limit.at_ms = now_ms end
      if i and until_ms > limit.keep_ms then limit.keep_ms = until_ms end
    end
    local bytes, keep_at_now = t.encode(limits)
    if #limits == 0 and leases == '' then
      -- The next claim of the call may read it. While a slot moves, a server refuses commands for a key that is not there.
      call('SET', key, bytes, 'PX', 1)
      return
    end
    return p.write(key, bytes, keep_at_now, leases, until_ms, open)
  end

  return t
end
