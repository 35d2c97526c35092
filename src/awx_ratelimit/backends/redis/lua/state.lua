-- Units: debts in the unit that is stored with the name of their limit, times in ms since the epoch, durations in ms.
--
-- The state of a record (a subject, or a subject in one scope) is one string of little-endian integers. While declared
-- claims are open, the record is a hash: this string is its field v, and the others are as in open.lua.
--   open     only in a hash: version 3 B, bytes of the rest I4, and the rest as in open.lua
--   head     version B, limits B, bytes of names I2; for each limit: length of its name B, name, numbers.
--            numbers: a byte (64 * kind + 8 * m + n), unit Im, burst In. The capacity is burst * unit. Kind 0: the drain
--            is the burst, and the period is the unit. 1: a calendar rate whose equal periods are the unit. 2: a rate
--            with a period of the calendar; the bytes of the calendar B, the calendar. 3: drain i8 (0: a calendar rate
--            with equal periods), period i8.
--   levels   for each limit: debt i8, at_ms i8 (time of the last charge)
--   keep_ms  i8: the time when the levels have drained and the leases have lapsed
--   tail     bytes of the tail I2; for each limit that the last charge did not have:
--            length of its name B, name, numbers, debt i8, at_ms i8, keep_ms i8
--   leases   for each owner: owner 16, expires_ms i8, ttl_ms I4, free I3, bounded I3,
--            free * sequence I6, bounded * (sequence I6, ends_ms i8). A bounded lease has a max_hold_ms.
-- Every script begins with this text. ARGV[1] begins with the time d (NaN means the server's own) and the owner 16 of
-- the leases. A closure costs as much as a limit, so functions that few calls need are made only when needed.

local u, pack, sub, find, rep, call = struct.unpack, struct.pack, string.sub, string.find, string.rep, redis.call
local VERSION, WITH_OPEN, EXACT, MARGIN_MS = 2, 3, 2 ^ 53, 60000
local WRONG_TYPE, NOT_OURS, CORRUPT = -1, -2, -3
local asked = ARGV[1]
local now_ms, owner = u('<d', asked), sub(asked, 9, 24)
local server_time = now_ms ~= now_ms
if server_time then
  local time = call('TIME')
  now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Reads the leases from `at` on, without those that have lapsed or ended. Returns their number, the bytes of other
-- owners, this owner's free and bounded leases, its ttl_ms and expires_ms, the time when the last lease lapses, and
-- whether any lease was dropped. A lease with more time left than its ttl was renewed by a clock that was ahead: its
-- ttl counts from now. Returns nil if the leases are corrupt.
local function read_leases(value, at)
  local held, others, own, ends, own_ttl_ms, own_expires_ms, lapse_ms, changed = 0, '', '', '', 0, 0, 0, false
  local from, last = at, #value
  if at > last + 1 then return nil end
  while at <= last do
    if at + 33 > last then return nil end
    local expires_ms, ttl_ms, free, bounded = u('<i8I4I3I3', value, at + 16)
    local after = at + 34 + 6 * free + 14 * bounded
    if after > last + 1 then return nil end
    local whose = sub(value, at, at + 15)
    if whose == owner or bounded > 0 or expires_ms <= now_ms or expires_ms > now_ms + ttl_ms then
      if at > from then others = others .. sub(value, from, at - 1) end
      from = after
      if expires_ms > now_ms + ttl_ms then expires_ms, changed = now_ms + ttl_ms, true end
      if expires_ms <= now_ms then
        free, bounded, changed = 0, 0, true
      else
        local unbounded, ending = sub(value, at + 34, at + 33 + 6 * free), ''
        for each = at + 34 + 6 * free, after - 14, 14 do
          if u('<i8', value, each + 6) > now_ms then
            ending = ending .. sub(value, each, each + 13)
          else
            bounded, changed = bounded - 1, true
          end
        end
        if whose == owner and free + bounded > 0 then
          own, ends, own_ttl_ms, own_expires_ms = unbounded, ending, ttl_ms, expires_ms
        elseif free + bounded > 0 then
          others = others .. whose .. pack('<i8I4I3I3', expires_ms, ttl_ms, free, bounded) .. unbounded .. ending
        end
      end
    end
    held = held + free + bounded
    if expires_ms > lapse_ms then lapse_ms = expires_ms end
    at = after
  end
  if from <= last then others = others .. sub(value, from) end
  return held, others, own, ends, own_ttl_ms, own_expires_ms, lapse_ms, changed
end

-- The stored value of a record: false for a new one, or an error table. MGET takes a hash for a missing key; GET would
-- fail, and the server counts errors.
local function read(key)
  local found = redis.pcall('MGET', key)
  if found[1] then return found[1] end
  if found.err then return found end
  return redis.pcall('HGET', key, 'v') or call('EXISTS', key) == 1 and { err = 'WRONGTYPE' }
end

-- Functions for everything but a plain charge: they read and write a value in two parts, and find leases.
local value_made
local function value_functions()
  if value_made then return value_made end
  local t = {}
  value_made = t

  -- A stored value without its open claims, the positions of its keep_ms and of its leases, and its open claims. A new
  -- subject has an empty value. Returns nil and a code if it is not a valid value.
  function t.split(value)
    if not value then return pack('<BBI2i8I2', VERSION, 0, 0, 0, 0), 5, 15, '' end
    if type(value) == 'table' then
      -- Other errors, such as a missing permission, concern more than this key.
      if not find(value.err, 'WRONGTYPE', 1, true) then error(value) end
      return nil, WRONG_TYPE
    end
    local open = ''
    if #value > 4 and string.byte(value) == WITH_OPEN then
      open = sub(value, 1, 5 + u('<I4', value, 2))
      value = sub(value, #open + 1)
    end
    if #value < 4 or string.byte(value) ~= VERSION then return nil, NOT_OURS end
    local _, limits, names = u('<BBI2', value)
    local keep_at = 5 + names + 16 * limits
    if #value < keep_at + 9 then return nil, CORRUPT end
    local leases_at = keep_at + 10 + u('<I2', value, keep_at + 8)
    if #value < leases_at - 1 then return nil, CORRUPT end
    return value, keep_at, leases_at, open
  end

  -- The latest keep_ms in the tail from `at` to `last`; 0 without a tail.
  function t.tail_keep_ms(value, at, last)
    local keep_ms = 0
    while at <= last do
      local numbers_at = at + string.byte(value, at) + 1
      local sizes = string.byte(value, numbers_at) or 0
      local n = sizes % 8
      local after = numbers_at + 25 + n + (sizes % 64 - n) / 8
      if sizes >= 192 then
        after = after + 16
      elseif sizes >= 128 then
        after = after + 1 + (string.byte(value, after - 24) or 0)
      end
      if after > last + 1 then return keep_ms end
      keep_ms, at = math.max(keep_ms, (u('<i8', value, after - 8))), after
    end
    return keep_ms
  end

  -- Stores a value with its open claims, as `split` or the functions of open.lua return them, for `lasts_ms`. Without
  -- that, it keeps its time to live; so a record with its first open claim needs one.
  function t.put(key, value, open, lasts_ms)
    local o = type(open) == 'table' and open or { bytes = open, was = open ~= '', changed = {}, gone = {} }
    if o.bytes == '' and lasts_ms then
      call('SET', key, value, 'PX', lasts_ms)
    elseif o.bytes == '' then
      call('SET', key, value, 'KEEPTTL')
    else
      local fields = { 'v', o.bytes .. value }
      for number, rows in pairs(o.changed) do
        fields[#fields + 1] = number
        fields[#fields + 1] = rows
      end
      -- A string that is damaged may look like the field of a hash. Others become a hash only where `can_be_hash`.
      if not o.was or type(redis.pcall('HSET', key, unpack(fields))) == 'table' then
        call('DEL', key)
        call('HSET', key, unpack(fields))
        lasts_ms = lasts_ms or MARGIN_MS
      end
      if #o.gone > 0 then call('HDEL', key, unpack(o.gone)) end
      if lasts_ms then call('PEXPIRE', key, lasts_ms) end
    end
  end

  -- Stores open claims, limits and leases, at least until `until_ms` and at least as long as before. Returns the time
  -- until which they are kept if that is a new one.
  function t.write(key, limits, keep_at, leases, until_ms, open)
    local keep_ms = u('<i8', limits, keep_at)
    if #limits == 14 and leases == '' then
      call('DEL', key)
    elseif server_time and until_ms + MARGIN_MS <= keep_ms then
      t.put(key, limits .. leases, open)
    else
      keep_ms = math.max(keep_ms, math.ceil(until_ms) + 2 * MARGIN_MS)
      limits = sub(limits, 1, keep_at - 1) .. pack('<i8', keep_ms) .. sub(limits, keep_at + 8)
      local longest_ms = math.max(keep_ms, t.tail_keep_ms(limits, keep_at + 10, #limits))
      t.put(key, limits .. leases, open, math.max(math.min(longest_ms - now_ms, EXACT), MARGIN_MS))
      return longest_ms
    end
  end

  -- Notes in the index of a subject, at least until `until_ms`, that it has a record in `scope`. The index is the time
  -- until which it is kept d, and the scopes with a comma before and after each.
  function t.index(key, scope, until_ms)
    local stored = redis.pcall('MGET', key)[1]
    local kept_ms, scopes = 0, ','
    if type(stored) == 'string' and #stored > 8 then kept_ms, scopes = u('<d', stored), sub(stored, 9) end
    local known = find(scopes, ',' .. scope .. ',', 1, true)
    if known and server_time and until_ms <= kept_ms then return end
    if not known then scopes = scopes .. scope .. ',' end
    kept_ms = math.max(kept_ms, until_ms + 2 * MARGIN_MS)
    call('SET', key, pack('<d', kept_ms) .. scopes, 'PX', math.max(math.min(kept_ms - now_ms, EXACT), MARGIN_MS))
  end

  function t.leases(others, own, ends, ttl_ms, expires_ms)
    if own == '' and ends == '' then return others end
    return others .. owner .. pack('<i8I4I3I3', expires_ms, ttl_ms, #own / 6, #ends / 14) .. own .. ends
  end

  -- The position of `sequence` in a list of leases of `width` bytes each; nil if it is not there.
  function t.find(list, sequence, width)
    local at = find(list, sequence, 1, true)
    while at and at % width ~= 1 do at = find(list, sequence, at + 1, true) end
    return at
  end

  -- The list without this lease.
  function t.without(list, sequence, width)
    local at = t.find(list, sequence, width)
    return at and sub(list, 1, at - 1) .. sub(list, at + width) or list
  end

  return t
end
