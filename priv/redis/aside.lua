-- Sets a job aside whose record nobody can read, unless its owner lives and has it in memory.
-- id gateway reason
local id, owner = ARGV[1], redis.pcall('HGET', 'koma:job:' .. ARGV[1], 'owner')
if redis.call('EXISTS', 'koma:job:' .. id) == 0 then return 'gone' end
if type(owner) == 'string' then
  if owner ~= ARGV[2] and redis.call('EXISTS', 'koma:gateway:' .. owner) == 1 then return 'kept' end
  redis.pcall('SREM', 'koma:live:' .. owner, id)
end
set_job_aside(id, ARGV[3])
return 'ok'
