-- What is known of live jobs, for the gateway that owns them: for each 'ok', 'fenced', or 'lost' when it
-- has to be written anew. A set that lost one of them gets it back.
-- owner then for each job: id epoch seq
local owner, answer = ARGV[1], {}
typed('koma:taken:' .. owner, 'set')
for i = 2, #ARGV, 3 do
  local id = ARGV[i]
  local events, word = 'koma:events:' .. id, 'ok'
  if fault(id) then
    word = 'lost'
  else
    typed(events, 'list')
    local refused, known = fence(id, owner, ARGV[i + 1])
    if refused == 'fenced' then
      word = 'fenced'
    elseif refused or known < tonumber(ARGV[i + 2]) then
      word = 'lost'
    elseif redis.call('HEXISTS', 'koma:job:' .. id, 'packed') == 0
        and redis.call('LLEN', events) ~= known then
      word = 'lost'
    else
      index(id)
    end
  end
  answer[#answer + 1] = word
end
return answer
