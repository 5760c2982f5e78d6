-- Takes back an acceptance of which nobody was told, as its outcome was not known.
-- id owner epoch
local refused = fence(ARGV[1], ARGV[2], ARGV[3])
if not refused then
  redis.call('SREM', 'koma:live:' .. ARGV[2], ARGV[1])
  forget(ARGV[1])
end
return 'ok'
