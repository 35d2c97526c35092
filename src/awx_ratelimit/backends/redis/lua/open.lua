-- Units: see state.lua. Open declared claims, by which a claim that costs less than it was charged is given back exactly:
-- for each, the lowest debt of each limit between it and the next one. See core/open_claims.py for the arithmetic.
--
-- After version and length: names B, for each: length B, name; and for each claim, oldest first, a row: owner 16,
-- sequence 6, time i8, and for each name: whether the claim was charged by it B, the lowest debt i8 (-1: not known).

local function open_functions()
  local t = {}
  local OPEN_MS, MAX_OPEN, NONE = 600000, 1000, '\0' .. pack('<i8', -1)

  -- The open claims in `open`, the first bytes of a value. What is corrupt counts as none: they are given back inexactly.
  function t.parse(open)
    local o = { numbers = {}, count = 0, names = '', rows = '', width = 30 }
    local at = 7
    for _ = 1, #open > 5 and string.byte(open, 6) or 0 do
      local after = at + (string.byte(open, at) or #open) + 1
      if after > #open + 1 then return t.parse('') end
      t.add_name(o, sub(open, at, after - 1))
      at = after
    end
    if (#open + 1 - at) % o.width == 0 then o.rows = sub(open, at) end
    while #o.rows > 0 and now_ms - u('<i8', o.rows, 23) > OPEN_MS do o.rows = sub(o.rows, o.width + 1) end
    return o
  end

  function t.encode(o)
    if o.rows == '' then return '' end
    local rest = string.char(o.count) .. o.names .. o.rows
    return pack('<BI4', WITH_OPEN, #rest) .. rest
  end

  function t.add_name(o, name)
    local rows = {}
    for at = 1, #o.rows, o.width do rows[#rows + 1] = sub(o.rows, at, at + o.width - 1) .. NONE end
    o.count, o.names, o.rows, o.width = o.count + 1, o.names .. name, table.concat(rows), o.width + 9
    o.numbers[name] = o.count
  end

  -- The place of a limit in a row; nil if no claim knows it. `add` makes one, unless there are too many.
  local function place(o, name, add)
    if not o.numbers[name] and add and o.count < 255 then t.add_name(o, name) end
    return o.numbers[name] and 21 + 9 * o.numbers[name]
  end

  local function put(o, at, bytes)
    o.rows = sub(o.rows, 1, at - 1) .. bytes .. sub(o.rows, at + #bytes)
  end

  -- The debt of a limit was as low as `debt` just now.
  function t.note(o, name, debt)
    if o.rows == '' then return end
    local at = place(o, name, true)
    if not at then return end
    at = #o.rows - o.width + 1 + at
    local low = u('<i8', o.rows, at + 1)
    if low < 0 or debt < low then put(o, at + 1, pack('<i8', debt)) end
  end

  -- Adds a claim that was charged just now. `debts` has pairs of the name and the debt of the limits that charged it.
  function t.add(o, id, debts)
    for i = 1, #debts, 2 do place(o, debts[i], true) end
    o.rows = o.rows .. id .. pack('<i8', now_ms) .. rep(NONE, o.count)
    for i = 1, #debts, 2 do
      local at = place(o, debts[i])
      if at then put(o, #o.rows - o.width + 1 + at, '\1' .. pack('<i8', debts[i + 1])) end
    end
    if #o.rows > MAX_OPEN * o.width then o.rows = sub(o.rows, #o.rows - MAX_OPEN * o.width + 1) end
  end

  local function row_of(o, id)
    local at = find(o.rows, id, 1, true)
    while at and at % o.width ~= 1 do at = find(o.rows, id, at + 1, true) end
    return at
  end

  -- Whether a claim is open.
  function t.has(o, id) return row_of(o, id) ~= nil end

  -- What of `amount` is given back to a claim, by a limit with this debt now; nil if that is not known.
  function t.give_back(o, id, name, amount, debt)
    t.note(o, name, debt)
    local row, at = row_of(o, id), place(o, name)
    if not row or not at or string.byte(o.rows, row + at) == 0 then return nil end
    local given = amount
    for each = row, #o.rows, o.width do
      local low = u('<i8', o.rows, each + at + 1)
      if low >= 0 and low < given then given = low end
    end
    local parts = { sub(o.rows, 1, row - 1) }
    for each = row, #o.rows, o.width do
      local low = u('<i8', o.rows, each + at + 1)
      parts[#parts + 1] = sub(o.rows, each, each + at) .. pack('<i8', low < 0 and low or low - given)
        .. sub(o.rows, each + at + 9, each + o.width - 1)
    end
    o.rows = table.concat(parts)
    return given
  end

  -- Forgets a claim: it is settled. Its lowest debts become those of the claim before.
  function t.close(o, id)
    local row = row_of(o, id)
    if not row then return end
    for at = row > 1 and row + 30 or #o.rows + 1, row + o.width - 1, 9 do
      local low, before = u('<i8', o.rows, at + 1), u('<i8', o.rows, at + 1 - o.width)
      if low >= 0 and (before < 0 or low < before) then put(o, at + 1 - o.width, pack('<i8', low)) end
    end
    o.rows = sub(o.rows, 1, row - 1) .. sub(o.rows, row + o.width)
  end

  -- A limit is counted otherwise from now on: no open claim can be given back by it exactly.
  function t.forget(o, name)
    local at = place(o, name)
    if not at then return end
    local parts = {}
    for row = 1, #o.rows, o.width do
      parts[#parts + 1] = sub(o.rows, row, row + at - 1) .. NONE .. sub(o.rows, row + at + 9, row + o.width - 1)
    end
    o.rows = table.concat(parts)
  end

  -- Notes a plain charge of `cost` that left `levels`, in the layout of `head`. `limits` are those of a value that had
  -- another layout. Returns the bytes of the open claims.
  function t.charged(open, limits, head, levels, exceeded, cost)
    local o = t.parse(open)
    for i, limit in ipairs(limit_functions().names(head, 5, #head, 0)) do
      local was = limits and limits[i].was
      if was and (was.unit ~= limit.unit or was.capacity ~= limit.capacity) then t.forget(o, limit.name) end
      if exceeded % 2 ^ i < 2 ^ (i - 1) then t.note(o, limit.name, levels[2 * i - 1] - limit.unit * cost) end
    end
    return t.encode(o)
  end

  return t
end
