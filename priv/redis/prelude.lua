-- Gives a key that cannot be worked with another name, and lists it for operators (docs/store.md).
local function set_aside(key, reason)
  local list = 'koma:quarantine'
  local kind = redis.call('TYPE', list).ok
  if kind ~= 'hash' and kind ~= 'none' then redis.call('RENAME', list, list .. ':' .. list) end
  redis.call('RENAME', key, list .. ':' .. key)
  -- A full Redis may refuse to list it; it has its new name all the same.
  redis.pcall('HSET', list, key, reason)
end

-- Sees to it that a key is of a type, or is not there.
local function typed(key, wanted)
  local found = redis.call('TYPE', key).ok
  if found ~= wanted and found ~= 'none' then
    set_aside(key, 'is a ' .. found .. ', not a ' .. wanted)
  end
end

local function number(text)
  return text and #text <= 15 and string.match(text, '^%d+$') ~= nil
end

-- Why the hash of a job cannot be worked with; nil if it can, or is not there.
local function fault(id)
  local job = 'koma:job:' .. id
  local kind = redis.call('TYPE', job).ok
  if kind == 'none' then return nil end
  if kind ~= 'hash' then return 'is a ' .. kind .. ', not a hash' end
  local fields = redis.call('HMGET', job, 'owner', 'record', 'model', 'key', 'epoch', 'seq')
  for i, name in ipairs({'owner', 'record', 'model', 'key'}) do
    if not fields[i] then return 'lacks ' .. name end
  end
  if not number(fields[5]) then return 'has a bad epoch' end
  if not number(fields[6]) then return 'has a bad seq' end
end

-- Sets a job aside, with its events.
local function set_job_aside(id, reason)
  local events = 'koma:events:' .. id
  set_aside('koma:job:' .. id, reason)
  if redis.call('EXISTS', events) == 1 then set_aside(events, 'its job ' .. reason) end
  redis.pcall('ZREM', 'koma:finished', id)
end

-- Removes a job and what leads to it. Another job may be damaged: that must not stop this one.
local function forget(id)
  local job = 'koma:job:' .. id
  local key = redis.pcall('HGET', job, 'key')
  if type(key) == 'string' then redis.pcall('ZREM', 'koma:jobs:' .. key, id) end
  redis.call('ZREM', 'koma:finished', id)
  redis.call('DEL', job, 'koma:events:' .. id)
end

-- What is known of a job to a gateway that takes itself for its owner: 'fenced' when another gateway
-- has adopted it; 'gone' when it is not there, or an earlier owner wrote it anew after a loss; else
-- nil and the number of its last event.
local function fence(id, owner, epoch)
  local known = redis.call('HMGET', 'koma:job:' .. id, 'owner', 'epoch', 'seq')
  if not known[1] then
    -- It may have been adopted, have ended, and be forgotten.
    if redis.call('SISMEMBER', 'koma:taken:' .. owner, id) == 1 then return 'fenced' end
    return 'gone'
  end
  if known[1] == owner and known[2] == epoch then return nil, tonumber(known[3]) end
  if tonumber(known[2]) < tonumber(epoch) then return 'gone' end
  return 'fenced'
end

-- Sees to it that a job is found by its owner or, when it has ended, by its end, and by its key.
local function index(id)
  local job = 'koma:job:' .. id
  local known = redis.call('HMGET', job, 'owner', 'key', 'created_at', 'finished_at')
  local now = redis.call('TIME')[1] .. '000'
  local jobs = 'koma:jobs:' .. known[2]
  typed(jobs, 'zset')
  if not redis.call('ZSCORE', jobs, id) then
    redis.call('ZADD', jobs, tonumber(known[3]) or now, id)
  end
  if redis.call('HEXISTS', job, 'packed') == 1 then
    if not redis.call('ZSCORE', 'koma:finished', id) then
      redis.call('ZADD', 'koma:finished', tonumber(known[4]) or now, id)
    end
  else
    local live = 'koma:live:' .. known[1]
    typed(live, 'set')
    if redis.call('SISMEMBER', live, id) == 0 then redis.call('SADD', live, id) end
    if redis.call('SISMEMBER', 'koma:gateways', known[1]) == 0 then
      redis.call('SADD', 'koma:gateways', known[1])
    end
  end
end
