-- A live job of a gateway whose lease is over gets another owner; exactly one gateway succeeds.
-- A gateway may adopt its own jobs, too: what it had sent before is fenced off by that.
-- id old_owner new_owner taken_ms then the models that the new owner serves
local id, old, new = ARGV[1], ARGV[2], ARGV[3]
if old ~= new and redis.call('EXISTS', 'koma:gateway:' .. old) == 1 then return {'alive'} end
local job, events = 'koma:job:' .. id, 'koma:events:' .. id
local reason = fault(id)
if reason then
  set_job_aside(id, reason)
  redis.call('SREM', 'koma:live:' .. old, id)
  return {'damaged'}
end
local known = redis.call('HMGET', job, 'owner', 'model', 'packed')
if known[1] ~= old or known[3] then
  redis.call('SREM', 'koma:live:' .. old, id)
  return {'taken'}
end

local served = false
for i = 5, #ARGV do served = served or ARGV[i] == known[2] end
if not served then return {'not served'} end

typed(events, 'list')
typed('koma:live:' .. new, 'set')
typed('koma:taken:' .. old, 'set')
typed('koma:taken:' .. new, 'set')
local epoch = redis.call('HINCRBY', job, 'epoch', 1)
redis.call('HSET', job, 'owner', new)
redis.call('SREM', 'koma:live:' .. old, id)
redis.call('SADD', 'koma:live:' .. new, id)
redis.call('SREM', 'koma:taken:' .. new, id)
if old ~= new then
  -- So that a gateway that was cut off does not take a job that has ended for one that was lost.
  redis.call('SADD', 'koma:taken:' .. old, id)
  redis.call('PEXPIRE', 'koma:taken:' .. old, ARGV[4])
end
-- Flat: the client loses its way in long lists within lists.
local story = redis.call('LRANGE', events, 0, -1)
local answer = {'ok', epoch, redis.call('HGET', job, 'seq'), redis.call('HGET', job, 'record')}
for i = 1, #story do answer[i + 4] = story[i] end
return answer
