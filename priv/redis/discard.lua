-- Takes back an acceptance of which nobody was told, as its outcome was not known.
-- id owner epoch
typed('koma:finished', 'zset')
typed('koma:live:' .. ARGV[2], 'set')
typed('koma:taken:' .. ARGV[2], 'set')
local reason = fault(ARGV[1])
if reason then set_job_aside(ARGV[1], reason) end
local refused = fence(ARGV[1], ARGV[2], ARGV[3])
if not refused then
  redis.call('SREM', 'koma:live:' .. ARGV[2], ARGV[1])
  forget(ARGV[1])
end
return 'ok'
