-- Stores the next event of a live job, and the record where the event changed more than its number.
-- id owner epoch seq event record('' if unchanged)
local id, seq = ARGV[1], tonumber(ARGV[4])
local refused, known = fence(id, ARGV[2], ARGV[3])
if refused then return refused end
if known >= seq then return 'ok' end
-- Redis was restarted and knows less than the gateway.
if known + 1 < seq then return 'gap' end
-- So it is when the list was lost, or is of another length than it should be.
if redis.call('RPUSH', 'koma:events:' .. id, ARGV[5]) ~= seq then return 'gap' end
redis.call('HSET', 'koma:job:' .. id, 'seq', seq)
if ARGV[6] ~= '' then redis.call('HSET', 'koma:job:' .. id, 'record', ARGV[6]) end
return 'ok'
