-- request says whether a signed request may run now: its nonce, then its idempotency key.
--
-- nonce   string: the token of the request that used it
-- idem    hash:   f fingerprint; while in flight: t token, u end of the lease (ms); when done: s status, b body,
--                 h:<name> headers
-- ARGV    1 now (ms)  2 token  3 nonce kept (ms)  4 fingerprint, empty: no idempotency key  5 lease (ms)
--         6 record kept (ms)
-- returns {"enter"} | {"replay", HGETALL idem} | {"nonce"} | {"flying"} | {"reused"}
--
-- A nonce or lease under the caller's own token is the caller's: the client library sends a command again when the
-- connection broke before the answer came.
local function request(nonce, idem)
  local now, token, fingerprint = tonumber(ARGV[1]), ARGV[2], ARGV[4]
  local user = redis.call('GET', nonce)
  local repeated = user and user ~= token
  if not user then
    redis.call('SET', nonce, token, 'PX', ARGV[3])
  end
  if fingerprint ~= '' then
    local record = redis.call('HMGET', idem, 'f', 's', 't', 'u')
    local same = record[1] == fingerprint
    if same and record[2] then
      return {'replay', redis.call('HGETALL', idem)}
    end
    if repeated then
      return {'nonce'}
    end
    if record[1] and not same then
      return {'reused'}
    end
    if record[1] and record[3] ~= token and tonumber(record[4]) > now then
      return {'flying'}
    end
    redis.call('HSET', idem, 'f', fingerprint, 't', token, 'u', string.format('%.0f', now + tonumber(ARGV[5])))
    redis.call('PEXPIRE', idem, ARGV[6])
  elseif repeated then
    return {'nonce'}
  end
  return {'enter'}
end
