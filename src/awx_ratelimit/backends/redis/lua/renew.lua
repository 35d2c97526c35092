-- Units: see state.lua. Extends the leases of one owner by their ttl, and enters lost leases again.
--
-- KEYS     records, each once
-- ARGV[1]  time d, owner 16, settled I8: unlisted leases of the owner below it end, because their release was lost;
--          for each record: leases I2, and for each lease: sequence I8, slots d, ttl_ms I4, ends_ms d (0 is never)
-- answer   for each lease, B: 0 lost, 1 renewed, 2 taken again, 3 ended because of its max_hold_ms

local LOST, RENEWED, TAKEN_AGAIN, ENDED = 0, 1, 2, 3
local t, at, answers, settled = value_functions(), 33, {}, u('<I8', asked, 25)

-- The leases of a list that this call lists too, or that are not settled yet.
local function unsettled(list, width, listed)
  local kept = ''
  for each = 1, #list, width do
    local sequence = sub(list, each, each + 5)
    if listed[sequence] or u('<I6', sequence) >= settled then kept = kept .. sub(list, each, each + width - 1) end
  end
  return kept
end

for i = 1, #KEYS do
  local count, leases, listed = u('<I2', asked, at), {}, {}
  at = at + 2
  for n = 1, count do
    local lease = { sequence = sub(asked, at, at + 5) }
    lease.slots, lease.ttl_ms, lease.ends_ms = u('<dI4d', asked, at + 8)
    leases[n], listed[lease.sequence], at = lease, true, at + 28
  end

  local value, keep_at, leases_at, open = t.split(read(KEYS[i]))
  local held, others, own, ends, ttl_ms, expires_ms, lapse_ms
  if value then held, others, own, ends, ttl_ms, expires_ms, lapse_ms = read_leases(value, leases_at) end
  if held then
    local there = #own / 6 + #ends / 14
    own, ends = unsettled(own, 6, listed), unsettled(ends, 14, listed)
    held = held - there + #own / 6 + #ends / 14
    if own == '' and ends == '' then ttl_ms = 0 end
  end
  for _, lease in ipairs(leases) do
    local answer = LOST
    if held then
      if t.find(own, lease.sequence, 6) or t.find(ends, lease.sequence, 14) then
        answer = RENEWED
      elseif lease.ends_ms > 0 and lease.ends_ms <= now_ms then
        answer = ENDED
      elseif held < lease.slots then
        answer, held = TAKEN_AGAIN, held + 1
        if lease.ends_ms > 0 then
          ends = ends .. lease.sequence .. pack('<i8', lease.ends_ms)
        else
          own = own .. lease.sequence
        end
      end
      if answer == RENEWED or answer == TAKEN_AGAIN then ttl_ms = math.max(ttl_ms, lease.ttl_ms) end
    end
    answers[#answers + 1] = string.char(answer)
  end
  if held then
    expires_ms = now_ms + ttl_ms
    local written = t.leases(others, own, ends, ttl_ms, expires_ms)
    t.write(KEYS[i], sub(value, 1, leases_at - 1), keep_at, written, math.max(lapse_ms, expires_ms), open)
  end
end
return table.concat(answers)
