-- complete says whether the projection holds every entry of its window in this form: the marker is there, and neither key
-- lacks a row that the other has. The marker is the field '' of the hash, so that it is never left over without the rows.
local function complete(ranking, players, form)
  return redis.call('HGET', players, '') == form and redis.call('HLEN', players) == redis.call('ZCARD', ranking) + 1
end
