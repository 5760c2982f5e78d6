-- Removes a job and what leads to it.
local function forget(id)
  local job = 'koma:job:' .. id
  local key = redis.call('HGET', job, 'key')
  if key then redis.call('ZREM', 'koma:jobs:' .. key, id) end
  redis.call('ZREM', 'koma:finished', id)
  redis.call('DEL', job, 'koma:events:' .. id)
end

-- What is known of a job to a gateway that takes itself for its owner: 'gone', 'fenced' when
-- another gateway has adopted it, else nil and the number of its last event.
local function fence(id, owner, epoch)
  local known = redis.call('HMGET', 'koma:job:' .. id, 'owner', 'epoch', 'seq')
  if not known[1] then return 'gone' end
  if known[1] ~= owner or known[2] ~= epoch then return 'fenced' end
  return nil, tonumber(known[3])
end
