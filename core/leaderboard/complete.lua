-- complete says whether the projection holds every entry of its window in this form, since this epoch or a later one: the
-- marker is there, and neither key lacks a row that the other has. The marker is the field '' of the hash, so that it is never
-- left over without the rows. form and marker are form:epoch.
local function complete(ranking, players, form)
  local kind, epoch = string.match(form, '^(.*):(%d+)$')
  local marked, since = string.match(redis.call('HGET', players, '') or '', '^(.*):(%d+)$')
  return marked == kind and tonumber(since) >= tonumber(epoch)
    and redis.call('HLEN', players) == redis.call('ZCARD', ranking) + 1
end
