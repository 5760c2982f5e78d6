-- Sets aside the jobs that cannot be worked with, and sees to it that the others are found.
-- ids
for _, id in ipairs(ARGV) do
  local reason = fault(id)
  if reason then
    set_job_aside(id, reason)
  elseif redis.call('EXISTS', 'koma:job:' .. id) == 1 then
    index(id)
  end
end
return 'ok'
