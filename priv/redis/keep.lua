-- Keeps a result; those go that were not asked for the longest, until the others fit.
-- fingerprint result bytes limit
local used, sizes, total = 'koma:results', 'koma:results:bytes', 'koma:results:total'
typed(used, 'zset')
typed(sizes, 'hash')
typed(total, 'string')
if not number(redis.call('GET', total)) then redis.call('DEL', total) end

local function drop(fingerprint)
  local bytes = redis.call('HGET', sizes, fingerprint)
  redis.call('ZREM', used, fingerprint)
  redis.call('HDEL', sizes, fingerprint)
  redis.call('DEL', 'koma:result:' .. fingerprint)
  if number(bytes) then redis.call('DECRBY', total, bytes) end
end

local bytes, limit = tonumber(ARGV[3]), tonumber(ARGV[4])
if bytes > limit then return 'too large' end
local now = redis.call('TIME')
redis.call('SET', 'koma:result:' .. ARGV[1], ARGV[2])
redis.call('INCRBY', total, bytes - (tonumber(redis.call('HGET', sizes, ARGV[1])) or 0))
redis.call('HSET', sizes, ARGV[1], bytes)
redis.call('ZADD', used, now[1] * 1000 + math.floor(now[2] / 1000), ARGV[1])
while (tonumber(redis.call('GET', total)) or 0) > limit do
  local oldest = redis.call('ZRANGE', used, 0, 0)[1]
  -- Nothing is left of what was counted.
  if not oldest then
    redis.call('DEL', sizes, total)
    break
  end
  drop(oldest)
end
return 'ok'
