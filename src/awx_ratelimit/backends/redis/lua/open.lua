-- Units: see state.lua. Open declared claims, by which a claim that costs less than it was charged is given back exactly:
-- for each limit, the lowest debt between one such claim and the next. See core/open_claims.py for the arithmetic.
--
-- A row is one claim: owner 16, sequence 6, time i8, and for each name of a limit that was known by then: its generation B
-- if the claim was charged by it, else 0, and the lowest debt i8 since the claim before (NONE: not known). The lowest debt
-- since the last claim is in the open part of the record, so that a charge reads and writes no rows.
--
-- Rows are in chunks of at most 32, oldest first, each in a field of its own. A chunk keeps the smallest of its lowest
-- debts, and what is to be subtracted from all of them: so a settlement reads one chunk. The open part of the record, after
-- version and length: names B, chunks n B, number of the next chunk I4; for each name: length B, name, generation B, lowest
-- debt since the last claim i8; then columns: field n * I4, rows n * B, first time n * i8, last time of all so far n * i8;
-- and for each name: smallest n * i8, to be subtracted n * i8. See open_rows.lua for what reads and writes rows.

local open_made
local function open_functions()
  if open_made then return open_made end
  local t = {}
  open_made = t
  t.OPEN_MS, t.NONE = 600000, 2 ^ 60

  -- No open claims; `was`: the record had some before.
  local function nothing(key, was)
    return {
      key = key, was = was, names = {}, numbers = {}, generations = {}, lows = {}, n = 0, next = 0, fields = '',
      sizes = '', firsts = '', lasts = '', mins = {}, subtracted = {}, changed = {}, gone = {}, columns = nil,
    }
  end

  -- The open claims in `open`, the open part of a record. What is corrupt counts as none: they are given back inexactly.
  function t.parse(open, key)
    local o, at = nothing(key, open ~= ''), 12
    if #open < 11 then return o end
    local names
    names, o.n, o.next = u('<BBI4', open, 6)
    for i = 1, names do
      local bytes = string.byte(open, at) or 0
      if at + bytes + 9 > #open then return nothing(key, true) end
      o.names[i] = sub(open, at, at + bytes)
      o.numbers[o.names[i]] = i
      o.generations[i], o.lows[i] = u('<Bi8', open, at + bytes + 1)
      at = at + bytes + 10
    end
    local n = o.n
    if n == 0 or at + n * (21 + 16 * names) ~= #open + 1 then return nothing(key, true) end
    if now_ms - u('<i8', open, at + 21 * n - 8) > t.OPEN_MS then return nothing(key, true) end
    o.columns = sub(open, at)
    return o
  end

  -- Takes the columns apart, for functions that need them: a charge does not.
  function t.with_columns(o)
    local columns, n, at = o.columns, o.n, 21 * o.n + 1
    if not columns then return o end
    o.columns = nil
    o.fields, o.sizes = sub(columns, 1, 4 * n), sub(columns, 4 * n + 1, 5 * n)
    o.firsts, o.lasts = sub(columns, 5 * n + 1, 13 * n), sub(columns, 13 * n + 1, 21 * n)
    for i = 1, #o.names do
      o.mins[i], o.subtracted[i] = sub(columns, at, at + 8 * n - 1), sub(columns, at + 8 * n, at + 16 * n - 1)
      at = at + 16 * n
    end
    return o
  end

  -- Sets the bytes of the open part: none without open claims.
  function t.encode(o)
    o.bytes = ''
    if o.n == 0 then return o end
    local rest = pack('<BBI4', #o.names, o.n, o.next)
    for i, name in ipairs(o.names) do rest = rest .. name .. pack('<Bi8', o.generations[i], o.lows[i]) end
    local columns = o.columns
    if not columns then
      columns = { o.fields, o.sizes, o.firsts, o.lasts }
      for i = 1, #o.names do columns[2 * i + 3], columns[2 * i + 4] = o.mins[i], o.subtracted[i] end
      columns = table.concat(columns)
    end
    rest = rest .. columns
    o.bytes = pack('<BI4', WITH_OPEN, #rest) .. rest
    return o
  end

  -- The debt of a limit was as low as `debt` just now.
  function t.note(o, name, debt)
    local i = o.numbers[name]
    if i and debt < o.lows[i] then o.lows[i] = debt end
  end

  -- A limit is counted otherwise from now on: no open claim can be given back by it exactly.
  function t.forget(o, name)
    local i = o.numbers[name]
    if i then o.generations[i], o.lows[i] = o.generations[i] % 255 + 1, t.NONE end
  end

  -- Notes a plain charge of `cost` that left `levels` of the limits in `named`. `limits` are those of a value that
  -- had another layout. Returns the open claims.
  function t.charged(open, key, limits, named, levels, exceeded, cost)
    local o = t.parse(open, key)
    for i, limit in ipairs(named) do
      local was = limits and limits[i].was
      if was and (was.unit ~= limit.unit or was.capacity ~= limit.capacity) then t.forget(o, limit.name) end
      if exceeded % 2 ^ i < 2 ^ (i - 1) then t.note(o, limit.name, levels[2 * i - 1] - limit.unit * cost) end
    end
    return t.encode(o)
  end

  return t
end
