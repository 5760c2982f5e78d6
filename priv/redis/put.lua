-- Stores a whole job: at its acceptance, at its end, and when Redis lost it.
-- id owner epoch seq record model key created_at finished_at('' while live) packed events('' while live)
-- retention_jobs create('1': also if it is not there) then the events of a live job
local id, owner, epoch, seq = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local refused, known = fence(id, owner, epoch)
if refused == 'fenced' or (refused == 'gone' and ARGV[12] ~= '1') then return refused end
-- It came twice.
if known and known >= seq then return 'ok' end

local job, events, live = 'koma:job:' .. id, 'koma:events:' .. id, 'koma:live:' .. owner
-- The first write is the one that a full Redis refuses, so nothing is stored by halves.
redis.call('HSET', job, 'owner', owner, 'epoch', epoch, 'seq', seq, 'record', ARGV[5],
  'model', ARGV[6], 'key', ARGV[7])
redis.call('ZADD', 'koma:jobs:' .. ARGV[7], ARGV[8], id)
redis.call('DEL', events)
if ARGV[9] == '' then
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
