-- Fills in what a lease was taken for, unless the lease is gone: whoever removed it has committed something newer.
--
-- KEYS     1 state of a player (string)
-- ARGV     1 lease  2 state  3 time to live in ms
-- returns  1 filled in  0 the lease is gone
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
