-- Finds the epoch of this Redis, and begins one where it is not known: everything in it was lost, or another server took over.
--
-- KEYS     1 epoch (hash): epoch → its number · server:<id> → '' for every server that held it
-- ARGV     1 id of the server  2 now in ms, which the number of a new epoch is at least
-- returns  the number of the epoch, as a string
local epoch = redis.call('HGET', KEYS[1], 'epoch')
local server = 'server:' .. ARGV[1]
if epoch and redis.call('HEXISTS', KEYS[1], server) == 1 then
  return epoch
end
local begun = tonumber(ARGV[2])
if epoch then
  begun = math.max(begun, tonumber(epoch) + 1)
end
begun = string.format('%.0f', begun)
redis.call('HSET', KEYS[1], 'epoch', begun, server, '')
return begun
