-- Units: see state.lua. The periods of the calendar that a call knows of one rate: the start d and the end d of the one
-- that contains the present, and those of three that contain later stored times (0 and 0: none).

local function period_functions()
  local t = {}

  -- The start and the end of the period that contains `ms`, from the bytes at `at`; nil if the call does not know it.
  function t.bounds(bytes, at, ms)
    for place = at, at + 48, 16 do
      local start_ms, end_ms = u('<dd', bytes, place)
      if start_ms <= ms and ms < end_ms then return start_ms, end_ms end
    end
  end

  -- The end of the period that contains `ms`; nil if the call does not know it.
  function t.end_of(bytes, at, ms)
    local _, end_ms = t.bounds(bytes, at, ms)
    return end_ms
  end

  -- A debt drained to now: the debt, its time, and the end of its period; or nil and the time whose period is missing.
  function t.drained(bytes, at, debt, at_ms)
    local start_ms, end_ms = t.bounds(bytes, at, now_ms)
    if not start_ms then return nil, now_ms end
    if debt <= 0 then return 0, now_ms, end_ms end
    if at_ms <= now_ms then return at_ms < start_ms and 0 or debt, now_ms, end_ms end
    local its_start_ms, its_end_ms = t.bounds(bytes, at, at_ms)
    if not its_start_ms then return nil, at_ms end
    if at_ms - now_ms > its_end_ms - its_start_ms then return debt, now_ms, end_ms end
    return debt, at_ms, its_end_ms
  end

  return t
end
