-- Units: see state.lua. Charges what a claim cost more, or gives back what it cost less. A refund gives back all.
--
-- KEYS     for each record: its key, a key that may note that this was done, and if the record is in a scope, the index of
--          the scopes of its subject
-- ARGV[1]  time d, owner 16, sequence 6 (0: nothing tells whether this was done), again B, declared B, decided_at_ms d, then
--          for each record: changes B, scope (length B, bytes), and for each change: bytes of the limit B, the limit as in a
--          head, tokens d (below 0: to give back), the end of the period of decided_at_ms d (calendar rates)
-- others   periods of the calendar: start d, end d, the calendar
-- answer   for each record: the tokens that are beyond the largest debt i8, or an error code below 0. Only OTHER_PERIOD
--          i8, time i8, ms i8, a calendar: nothing is done, because the period of it that contains ms is missing.

-- Each claim is settled once, though a call without an answer is sent again and may also arrive late. A declared claim has
-- a row until it is settled. What has no row is noted. `again` says that a claim had a row and was sent before: without
-- its row it is settled.
local OTHER_PERIOD, NOTED_MS = -4, 3600000
local t, by, at = value_functions(), limit_functions(), 41
local id, decided_at_ms = owner .. sub(asked, 25, 30), u('<d', asked, 33)
local has_id = sub(asked, 25, 30) ~= rep('\0', 6)
local again, declared = string.byte(asked, 31) == 1, string.byte(asked, 32) == 1
local periods, opens = period_functions(), open_row_functions()
local records, next_key, missing = {}, 1, nil

-- The call knows the periods of a calendar by its name.
function periods.bounds(_, calendar, ms)
  for i = 2, #ARGV do
    local start_ms, end_ms = u('<dd', ARGV[i])
    if start_ms <= ms and ms < end_ms and sub(ARGV[i], 17) == calendar then return start_ms, end_ms end
  end
end

-- The debt of a limit now and its time, by the rate that it was charged by; and the end of a calendar rate's period.
local function drained(limit)
  if not limit.calendar then return by.drained(limit) end
  local left, since_ms, end_ms = periods.drained(nil, limit.calendar, limit.debt, limit.at_ms)
  if not left then missing = missing or pack('<i8i8i8', OTHER_PERIOD, now_ms, since_ms) .. limit.calendar end
  return left or 0, since_ms, end_ms
end

-- Charges `change` to a limit. Returns the tokens that are beyond its largest debt, and the time when it has drained.
local function charge(limit, change, open)
  local debt, at_ms, end_ms = drained(limit)
  opens.note(open, limit.name, debt)
  -- A product beyond 2^53 is larger than any debt, however it is rounded.
  local room = math.max(0, math.min(2 * limit.capacity, EXACT) - debt)
  local tokens = math.min(change.tokens, EXACT)
  local wanted = limit.unit * tokens
  local cut_off = 0
  if wanted > room then
    cut_off, wanted = tokens - (room - math.fmod(room, limit.unit)) / limit.unit, room
  end
  limit.debt, limit.at_ms = debt + wanted, at_ms
  return cut_off, end_ms or limit.drain > 0 and at_ms + limit.debt / limit.drain or 0
end

-- Of `change`, what has not refilled since the claim, in the unit of the limit.
local function unfilled(limit, change)
  local amount
  if change.drain == 0 then
    amount = now_ms < change.end_ms and -change.tokens * change.unit or 0
  else
    amount = -change.tokens * change.unit - change.drain * math.max(0, now_ms - decided_at_ms)
  end
  if amount <= 0 then return 0 end
  return (by.scaled(amount, limit.unit, change.unit))
end

local function give_back(limit, change, open)
  local given
  if open.n > 0 then
    given = opens.give_back(open, limit.name, -change.tokens * limit.unit, (drained(limit)))
  end
  limit.debt = math.max(0, limit.debt - (given or unfilled(limit, change)))
  if open.n > 0 then opens.note(open, limit.name, (drained(limit))) end
end

local function changes_at(count)
  local changes = {}
  for n = 1, count do
    local after = at + string.byte(asked, at) + 1
    local change = by.names(asked, at + 1, after - 1, 0)[1]
    change.tokens, change.end_ms = u('<dd', asked, after)
    changes[n], at = change, after + 16
  end
  return changes
end

local function is_first(has_row, note_key)
  if not has_id or has_row and not again then return true end
  if again and not has_row then return false end
  return call('SET', note_key, '', 'NX', 'PX', NOTED_MS)
end

-- Corrects one record. Returns the answer, and a function that stores it, or returns false if it was done before.
local function settle(key, note_key, index_key, scope, changes)
  local value, keep_at, leases_at, open = t.split(read(key))
  if not value then return keep_at end
  local limits = by.parse(value, keep_at, leases_at)
  if not limits then return CORRUPT end
  open = opens.parse(open, key)
  if has_id and declared then opens.find(open, id, decided_at_ms) end
  local known, cut_off, until_ms, touched, has_row = {}, 0, 0, open.n > 0, open.found ~= nil
  for _, limit in ipairs(limits) do known[limit.name] = limit end
  for _, change in ipairs(changes) do
    local limit = known[change.name]
    if change.tokens > 0 then
      if not limit then
        limit, limits[#limits + 1] = change, change
        limit.debt, limit.at_ms, limit.keep_ms = 0, now_ms, 0
      elseif limit.debt == 0 and limit.at_ms == 0 then
        -- It was never charged, so it says nothing about how a debt is counted.
        for _, field in ipairs({ 'numbers', 'unit', 'capacity', 'drain', 'period_ms', 'calendar' }) do
          limit[field] = change[field]
        end
      end
      local lost, drained_ms = charge(limit, change, open)
      cut_off, touched = cut_off + lost, true
      limit.keep_ms = math.max(limit.keep_ms, math.ceil(drained_ms) + 2 * MARGIN_MS)
      until_ms = math.max(until_ms, drained_ms)
    elseif limit and (limit.debt > 0 or open.n > 0) then
      give_back(limit, change, open)
      touched = true
    end
  end
  opens.close(open)
  return cut_off, touched and function()
    if #changes > 0 and not is_first(has_row, note_key) then return false end
    local bytes, keep_now_at = by.encode(limits)
    local kept_until_ms = t.write(key, bytes, keep_now_at, sub(value, leases_at), until_ms, opens.encode(open))
    if kept_until_ms and index_key then t.index(index_key, scope, kept_until_ms) end
    return true
  end
end

while next_key <= #KEYS do
  local count, scope_bytes = u('<BB', asked, at)
  local scope, key, note_key, index_key = sub(asked, at + 2, at + 1 + scope_bytes), KEYS[next_key], KEYS[next_key + 1], nil
  at, next_key = at + 2 + scope_bytes, next_key + 2
  if scope_bytes > 0 then
    index_key, next_key = KEYS[next_key], next_key + 1
  end
  local answer, write = settle(key, note_key, index_key, scope, changes_at(count))
  records[#records + 1] = { answer = answer, write = write }
end

if missing then return missing end
local answers = {}
for i, record in ipairs(records) do
  local was_done = record.write and not record.write()
  answers[i] = pack('<i8', was_done and 0 or record.answer)
end
return table.concat(answers)
