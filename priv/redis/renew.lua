-- Renews the lease of a gateway: 1 if it still had it, 0 if it was over or is the first.
-- gateway node lease_ms
local lease = 'koma:gateway:' .. ARGV[1]
-- This works in a Redis that is full, too.
if redis.call('PEXPIRE', lease, ARGV[3]) == 1 then return 1 end
redis.call('SET', lease, ARGV[2], 'PX', ARGV[3])
redis.call('SADD', 'koma:gateways', ARGV[1])
return 0
