-- Forgets those of the jobs that have ended.
typed('koma:finished', 'zset')
for _, id in ipairs(ARGV) do
  if redis.call('ZSCORE', 'koma:finished', id) then forget(id) end
end
return 'ok'
