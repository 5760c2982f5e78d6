-- Stores a whole job: at its acceptance, at its end, and when Redis lost or damaged it.
-- id owner epoch seq record model key created_at finished_at('' while live) packed events('' while live)
-- retention_jobs create('1': also if it is not there, '2': even if it is) then the events of a live job
local id, owner, epoch, seq = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local job, events, live = 'koma:job:' .. id, 'koma:events:' .. id, 'koma:live:' .. owner
typed('koma:taken:' .. owner, 'set')
typed('koma:jobs:' .. ARGV[7], 'zset')
typed('koma:finished', 'zset')
typed(live, 'set')
typed(events, 'list')
local reason = fault(id)
if reason then set_job_aside(id, reason) end

local refused, known = fence(id, owner, epoch)
if refused == 'fenced' or (refused == 'gone' and ARGV[12] == '0') then return refused end
-- It came twice.
if known and known >= seq and ARGV[12] ~= '2' then return 'ok' end

-- The first write is the one that a full Redis refuses, so nothing is stored by halves.
redis.call('HSET', job, 'owner', owner, 'epoch', epoch, 'seq', seq, 'record', ARGV[5],
  'model', ARGV[6], 'key', ARGV[7], 'created_at', ARGV[8], 'finished_at', ARGV[9])
redis.call('ZADD', 'koma:jobs:' .. ARGV[7], ARGV[8], id)
redis.call('DEL', events)
if ARGV[9] == '' then
  -- An end of which nobody was told may have been stored before.
  redis.call('HDEL', job, 'packed')
  redis.call('ZREM', 'koma:finished', id)
  redis.call('SADD', live, id)
  for i = 13, #ARGV do redis.call('RPUSH', events, ARGV[i]) end
else
  redis.call('HSET', job, 'packed', ARGV[10])
  redis.call('SREM', live, id)
  redis.call('ZADD', 'koma:finished', ARGV[9], id)
  while redis.call('ZCARD', 'koma:finished') > tonumber(ARGV[11]) do
    forget(redis.call('ZRANGE', 'koma:finished', 0, 0)[1])
  end
end
return 'ok'
