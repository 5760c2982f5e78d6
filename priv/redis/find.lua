-- Finds a result, which is the newest then.
-- fingerprint
typed('koma:result:' .. ARGV[1], 'string')
local result = redis.call('GET', 'koma:result:' .. ARGV[1])
if result then
  local now = redis.call('TIME')
  -- In a Redis that is full its age stays.
  redis.pcall('ZADD', 'koma:results', 'XX', now[1] * 1000 + math.floor(now[2] / 1000), ARGV[1])
end
return result
