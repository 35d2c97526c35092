-- Units: see state.lua. What adds, settles and forgets open claims: see open.lua for the layout.

local function open_row_functions()
  local t = open_functions()
  if t.add then return t end
  local OPEN_MS, NONE, with_columns = t.OPEN_MS, t.NONE, t.with_columns
  local MAX_OPEN, MAX_ROWS, MERGED_ROWS, MAX_NAMES = 1000, 32, 24, 255

  local function get(column, i) return (u('<i8', column, 8 * i - 7)) end

  local function put(column, i, number)
    return sub(column, 1, 8 * i - 8) .. pack('<i8', number) .. sub(column, 8 * i + 1)
  end

  local function all(o, column)
    local numbers = { u('<' .. rep('i8', o.n), column) }
    -- After the numbers comes the position where they end.
    numbers[o.n + 1] = nil
    return numbers
  end

  local function pack_all(column) return pack('<' .. rep('i8', #column), unpack(column)) end

  local function field(o, c) return string.format('%d', u('<I4', o.fields, 4 * c - 3)) end

  local function size(o, c) return string.byte(o.sizes, c) end

  -- The rows of a chunk, the bytes of each, and how many names they know; nil if they are corrupt.
  local function read(o, c)
    local number = field(o, c)
    local rows = o.changed[number] or redis.pcall('HGET', o.key, number)
    if type(rows) ~= 'string' then return nil end
    local width = #rows / size(o, c)
    local known = (width - 30) / 9
    if known < 0 or known % 1 > 0 or known > #o.names then return nil end
    return rows, width, known
  end

  local function set_size(o, c, rows) o.sizes = sub(o.sizes, 1, c - 1) .. string.char(rows) .. sub(o.sizes, c + 1) end

  -- Removes a chunk without its rows.
  local function drop(o, c)
    local function without(column, width) return sub(column, 1, width * (c - 1)) .. sub(column, width * c + 1) end
    local number = field(o, c)
    o.gone[#o.gone + 1], o.changed[number] = number, nil
    o.fields, o.sizes = without(o.fields, 4), without(o.sizes, 1)
    o.firsts, o.lasts, o.n = without(o.firsts, 8), without(o.lasts, 8), o.n - 1
    for i = 1, #o.names do o.mins[i], o.subtracted[i] = without(o.mins[i], 8), without(o.subtracted[i], 8) end
  end

  local function add_chunk(o)
    local open = 0
    for c = 1, o.n do open = open + size(o, c) end
    while o.n > 0 and (open - size(o, 1) >= MAX_OPEN or now_ms - get(o.lasts, 1) > OPEN_MS or o.n == 255) do
      open = open - size(o, 1)
      drop(o, 1)
    end
    local last_ms = o.n > 0 and math.max(now_ms, get(o.lasts, o.n)) or now_ms
    o.fields, o.sizes = o.fields .. pack('<I4', o.next), o.sizes .. '\0'
    o.firsts, o.lasts = o.firsts .. pack('<i8', now_ms), o.lasts .. pack('<i8', last_ms)
    o.n, o.next = o.n + 1, (o.next + 1) % 2 ^ 32
    for i = 1, #o.names do
      o.mins[i], o.subtracted[i] = o.mins[i] .. pack('<i8', NONE), o.subtracted[i] .. pack('<i8', 0)
    end
  end

  local function add_name(o, name)
    if o.numbers[name] or #o.names == MAX_NAMES then return end
    local i = #o.names + 1
    o.names[i], o.numbers[name], o.generations[i], o.lows[i] = name, i, 1, NONE
    o.mins[i], o.subtracted[i] = rep(pack('<i8', NONE), o.n), rep(pack('<i8', 0), o.n)
  end

  -- Adds a claim that was charged just now. `debts` has pairs of the name and the debt of the limits that charged it.
  function t.add(o, id, debts)
    local charged = {}
    with_columns(o)
    for k = 1, #debts, 2 do
      add_name(o, debts[k])
      charged[debts[k]] = debts[k + 1]
    end
    local rows, known, _
    if o.n > 0 and size(o, o.n) < MAX_ROWS then rows, _, known = read(o, o.n) end
    if known ~= #o.names then
      add_chunk(o)
      rows = ''
    end
    local c, row = o.n, { id, pack('<i8', now_ms) }
    for i, name in ipairs(o.names) do
      local low, debt = o.lows[i], charged[name]
      row[i + 2] = pack('<Bi8', debt and o.generations[i] or 0, low + get(o.subtracted[i], c))
      if low < get(o.mins[i], c) then o.mins[i] = put(o.mins[i], c, low) end
      o.lows[i] = debt or NONE
    end
    o.changed[field(o, c)] = rows .. table.concat(row)
    if now_ms < get(o.firsts, c) then o.firsts = put(o.firsts, c, now_ms) end
    if now_ms > get(o.lasts, c) then o.lasts = put(o.lasts, c, now_ms) end
    set_size(o, c, size(o, c) + 1)
  end

  -- Finds a claim that was probably charged at `charged_at_ms`, for `give_back` and `close`.
  function t.find(o, id, charged_at_ms)
    if o.n == 0 then return end
    with_columns(o)
    local firsts, lasts = all(o, o.firsts), all(o, o.lasts)
    for _, by_time in ipairs({ true, false }) do
      for c = 1, o.n do
        if (firsts[c] <= charged_at_ms and charged_at_ms <= lasts[c]) == by_time then
          local rows, width, known = read(o, c)
          local at = rows and find(rows, id, 1, true)
          while at and (at - 1) % width > 0 do at = find(rows, id, at + 1, true) end
          if at then
            o.found = { c = c, at = at, rows = rows, width = width, known = known }
            o.found.is_exact = now_ms - u('<i8', rows, at + 22) <= OPEN_MS
            return
          end
        end
      end
    end
  end

  -- What of `amount` is given back to the claim that was found, by a limit with this debt now; nil if that is not known.
  function t.give_back(o, name, amount, debt)
    t.note(o, name, debt)
    local i, row = o.numbers[name], o.found
    if not row or not row.is_exact or not i or i > row.known then return nil end
    local c, rows, low_at, given = row.c, row.rows, 22 + 9 * i, math.min(amount, o.lows[i])
    if string.byte(rows, row.at + low_at - 1) ~= o.generations[i] then return nil end
    local mins, subtracted, least, parts, from = all(o, o.mins[i]), all(o, o.subtracted[i]), NONE, {}, 1
    for later = c + 1, o.n do given = math.min(given, mins[later]) end
    for at = row.at + row.width, #rows, row.width do
      given = math.min(given, u('<i8', rows, at + low_at) - subtracted[c])
    end
    if given == 0 then return 0 end
    for at = 1, #rows, row.width do
      local low = u('<i8', rows, at + low_at)
      if at > row.at then
        low = low - given
        parts[#parts + 1] = sub(rows, from, at + low_at - 1) .. pack('<i8', low)
        from = at + low_at + 8
      end
      least = math.min(least, low - subtracted[c])
    end
    row.rows = table.concat(parts) .. sub(rows, from)
    o.changed[field(o, c)], mins[c] = row.rows, least
    for later = c + 1, o.n do
      mins[later], subtracted[later] = mins[later] - given, subtracted[later] + given
    end
    o.mins[i], o.subtracted[i], o.lows[i] = pack_all(mins), pack_all(subtracted), o.lows[i] - given
    return given
  end

  -- Lowers the lowest debts before the row at `at` to those of a row that ends.
  local function lower(o, c, rows, at, known, lows)
    for i = 1, known do
      local place, less = at + 22 + 9 * i, get(o.subtracted[i], c)
      if lows[i] < u('<i8', rows, place) - less then
        rows = sub(rows, 1, place - 1) .. pack('<i8', lows[i] + less) .. sub(rows, place + 8)
        if lows[i] < get(o.mins[i], c) then o.mins[i] = put(o.mins[i], c, lows[i]) end
      end
    end
    o.changed[field(o, c)] = rows
    return rows
  end

  -- The rows of a chunk with nothing to subtract and all names; nil if they are corrupt.
  local function plain_rows(o, c)
    local rows, width, known = read(o, c)
    if not rows then return nil end
    local parts, more = {}, rep('\0' .. pack('<i8', NONE), #o.names - known)
    for at = 1, #rows, width do
      local row = { sub(rows, at, at + 29) }
      for i = 1, known do
        local generation, low = u('<Bi8', rows, at + 21 + 9 * i)
        row[i + 1] = pack('<Bi8', generation, low - get(o.subtracted[i], c))
      end
      parts[#parts + 1] = table.concat(row) .. more
    end
    return table.concat(parts)
  end

  -- Makes one chunk of two that are small.
  local function merge(o, c)
    if c < 1 or c >= o.n or size(o, c) + size(o, c + 1) > MERGED_ROWS then return end
    local first, second = plain_rows(o, c), plain_rows(o, c + 1)
    if not first or not second then return end
    o.changed[field(o, c)] = first .. second
    for i = 1, #o.names do
      o.mins[i] = put(o.mins[i], c, math.min(get(o.mins[i], c), get(o.mins[i], c + 1)))
      o.subtracted[i] = put(o.subtracted[i], c, 0)
    end
    o.firsts = put(o.firsts, c, math.min(get(o.firsts, c), get(o.firsts, c + 1)))
    o.lasts = put(o.lasts, c, get(o.lasts, c + 1))
    set_size(o, c, size(o, c) + size(o, c + 1))
    drop(o, c + 1)
  end

  -- Forgets the claim that was found: it is settled. Its lowest debts become those of the claim after it.
  function t.close(o)
    local row, lows = o.found, {}
    if not row then return end
    local c, at, rows, width = row.c, row.at, row.rows, row.width
    for i = 1, row.known do lows[i] = u('<i8', rows, at + 22 + 9 * i) - get(o.subtracted[i], c) end
    if at + width <= #rows then
      rows = lower(o, c, rows, at + width, row.known, lows)
    elseif c < o.n then
      local next_rows = read(o, c + 1)
      if next_rows then lower(o, c + 1, next_rows, 1, row.known, lows) end
    else
      for i, low in ipairs(lows) do o.lows[i] = math.min(o.lows[i], low) end
    end
    o.found = nil
    if size(o, c) == 1 then return drop(o, c) end
    o.changed[field(o, c)] = sub(rows, 1, at - 1) .. sub(rows, at + width)
    set_size(o, c, size(o, c) - 1)
    merge(o, c)
    merge(o, c - 1)
  end

  return t
end
