-- Renews the lease of a gateway. Returns the name of what Redis knows, which is another one when all
-- of it was lost, and how many keys lie in quarantine.
-- gateway node lease_ms name_if_there_is_none
local lease = 'koma:gateway:' .. ARGV[1]
typed(lease, 'string')
typed('koma:generation', 'string')
typed('koma:gateways', 'set')
typed('koma:finished', 'zset')
typed('koma:quarantine', 'hash')
-- This works in a Redis that is full, too.
if redis.call('PEXPIRE', lease, ARGV[3]) == 0 then
  redis.call('SET', lease, ARGV[2], 'PX', ARGV[3])
end
redis.pcall('SET', 'koma:generation', ARGV[4], 'NX')
if redis.call('SISMEMBER', 'koma:gateways', ARGV[1]) == 0 then
  redis.pcall('SADD', 'koma:gateways', ARGV[1])
end
return {redis.call('GET', 'koma:generation') or '', redis.call('HLEN', 'koma:quarantine')}
