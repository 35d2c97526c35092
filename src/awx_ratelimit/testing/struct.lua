-- The library `struct` of Redis, for Lua 5.1 alone: little-endian B, In, in, d and cn, where In and in have 1 to 8 bytes.
-- c0 packs a whole string. Integers are exact up to 2^53.

local struct = {}
local byte, char, substring, floor, ldexp = string.byte, string.char, string.sub, math.floor, math.ldexp

local function fields(format)
  local found = {}
  for kind, size in string.gmatch(format, '([%a])(%d*)') do
    found[#found + 1] = { kind = kind, size = kind == 'd' and 8 or kind == 'B' and 1 or tonumber(size) or 4 }
  end
  return found
end

local known = {}
local function parse(format)
  if not known[format] then known[format] = fields(format) end
  return known[format]
end

local function packed_integer(number, size)
  local bytes, rest = {}, number < 0 and math.ceil(number) or floor(number)
  for each = 1, size do
    bytes[each] = rest % 256
    rest = floor(rest / 256)
  end
  return char(unpack(bytes))
end

local function unpacked_integer(value, at, size, signed)
  local bytes = { byte(value, at, at + size - 1) }
  local negative = signed and bytes[size] >= 128
  local number = 0
  for each = size, 1, -1 do
    number = number * 256 + (negative and 255 - bytes[each] or bytes[each])
  end
  return negative and -number - 1 or number
end

local function packed_double(number)
  if number ~= number then return '\0\0\0\0\0\0\248\127' end
  local sign = (number < 0 or 1 / number < 0) and 128 or 0
  number = math.abs(number)
  if number == 0 then return '\0\0\0\0\0\0\0' .. char(sign) end
  if number == math.huge then return '\0\0\0\0\0\0\240' .. char(sign + 127) end
  local mantissa, exponent = math.frexp(number)
  exponent = exponent + 1022
  if exponent < 1 then
    mantissa, exponent = ldexp(mantissa, 52 + exponent), 0
  else
    mantissa = ldexp(mantissa * 2 - 1, 52)
  end
  local high = floor(mantissa / 2 ^ 48)
  return packed_integer(mantissa % 2 ^ 48, 6) .. char(exponent % 16 * 16 + high, sign + floor(exponent / 16))
end

local function unpacked_double(value, at)
  local seventh, last = byte(value, at + 6, at + 7)
  local exponent = last % 128 * 16 + floor(seventh / 16)
  local mantissa = seventh % 16 * 2 ^ 48 + unpacked_integer(value, at, 6, false)
  local sign = last >= 128 and -1 or 1
  if exponent == 2047 then return mantissa > 0 and 0 / 0 or sign * math.huge end
  if exponent == 0 then return sign * ldexp(mantissa, -1074) end
  return sign * ldexp(mantissa + 2 ^ 52, exponent - 1075)
end

function struct.pack(format, ...)
  local parts, values = {}, { ... }
  for each, field in ipairs(parse(format)) do
    local value = values[each]
    if field.kind == 'd' then
      parts[each] = packed_double(value)
    elseif field.kind == 'c' then
      if #value < field.size then error('string too short') end
      parts[each] = field.size == 0 and value or substring(value, 1, field.size)
    else
      parts[each] = packed_integer(value, field.size)
    end
  end
  return table.concat(parts)
end

function struct.unpack(format, value, at)
  at = at or 1
  local values, count = {}, 0
  for _, field in ipairs(parse(format)) do
    if at + field.size - 1 > #value then error('data string too short') end
    count = count + 1
    if field.kind == 'd' then
      values[count] = unpacked_double(value, at)
    elseif field.kind == 'c' then
      values[count] = substring(value, at, at + field.size - 1)
    else
      values[count] = unpacked_integer(value, at, field.size, field.kind == 'i')
    end
    at = at + field.size
  end
  values[count + 1] = at
  return unpack(values, 1, count + 1)
end
return struct
