package gate

import (
	"context"
	_ "embed" // the scripts
	"fmt"
	"slices"

	"github.com/redis/go-redis/v9"

	"liveops/core/store"
)

//go:embed request.lua
var requestLua string

//go:embed players.lua
var playersLua string

var (
	// KEYS nonce, idem. ARGV and returns: see request.lua.
	enterScript = redis.NewScript(requestLua + `return request(KEYS[1], KEYS[2])`)

	// KEYS block, rate, seen of each player. ARGV and returns: see players.lua.
	playersScript = redis.NewScript(playersLua + `return players(1, 1)`)

	// KEYS nonce, idem, then block, rate, seen of each player. ARGV those of request.lua, then those of players.lua.
	// returns what request.lua does, with what players.lua returns as the second element of {"enter"}.
	enterAllScript = redis.NewScript(requestLua + playersLua + `
local outcome = request(KEYS[1], KEYS[2])
if outcome[1] == 'enter' then
  outcome[2] = players(3, 7)
end
return outcome`)

	// The same for the key of a session. KEYS nonce, idem, session, then block, rate, seen of its player. ARGV as before, then the
	// time the generation is kept (ms), the key's own generation, and the player's as SQL has it, empty when it was not asked. returns
	// as before, or {"generation"} when SQL must be asked, or {"revoked"}. A generation that grows on the way is known to be true: a
	// key that is of it was made.
	sessionScript = redis.NewScript(generationLua + requestLua + playersLua + `
local own = tonumber(ARGV[#ARGV - 1])
local current = redis.call('GET', KEYS[3])
if ARGV[#ARGV] ~= '' then
  current = later(KEYS[3], ARGV[#ARGV], ARGV[#ARGV - 2])
end
if not current then
  return {'generation'}
end
if own < tonumber(current) then
  return {'revoked'}
end
if own > tonumber(current) then
  later(KEYS[3], ARGV[#ARGV - 1], ARGV[#ARGV - 2])
end
local outcome = request(KEYS[1], KEYS[2])
if outcome[1] == 'enter' then
  outcome[2] = players(4, 7)
end
return outcome`)

	// KEYS session. ARGV generation, kept (ms). returns the later one of the two.
	revokeScript = redis.NewScript(generationLua + `return later(KEYS[1], ARGV[1], ARGV[2])`)

	// KEYS idem. ARGV token, kept (ms), then fields and values of the answer. returns 1, or 0 when the lease is another's.
	storeScript = redis.NewScript(`
if redis.call('HGET', KEYS[1], 't') ~= ARGV[1] then
  return 0
end
redis.call('HDEL', KEYS[1], 't', 'u')
redis.call('HSET', KEYS[1], unpack(ARGV, 3))
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1`)

	// KEYS idem. ARGV token. returns 1, or 0 when the lease is another's.
	releaseScript = redis.NewScript(`
if redis.call('HGET', KEYS[1], 't') ~= ARGV[1] then
  return 0
end
return redis.call('DEL', KEYS[1])`)

	// KEYS seen of each player. ARGV now (ms), seen until (ms), kept (ms), most ids, then for each player the number of his
	// events and their ids. returns the number of players.
	seenScript = redis.NewScript(`
local at = 5
for k = 1, #KEYS do
  local n = tonumber(ARGV[at])
  redis.call('ZREMRANGEBYSCORE', KEYS[k], '-inf', ARGV[1])
  for i = at + 1, at + n do
    redis.call('ZADD', KEYS[k], ARGV[2], ARGV[i])
  end
  redis.call('ZREMRANGEBYRANK', KEYS[k], 0, -1 - tonumber(ARGV[4]))
  redis.call('PEXPIRE', KEYS[k], ARGV[3])
  at = at + 1 + n
end
return #KEYS`)

	// KEYS block. ARGV until (ms), kept (ms), reason, decision, what stands before the names of its fields. returns 1, or 0 when
	// one of its kind is in place and ends no sooner.
	blockScript = redis.NewScript(`
local kind = ARGV[5]
local ends = redis.call('HGET', KEYS[1], kind .. 'until')
if ends and tonumber(ends) >= tonumber(ARGV[1]) then
  return 0
end
redis.call('HSET', KEYS[1], kind .. 'until', ARGV[1], kind .. 'reason', ARGV[3], kind .. 'decision', ARGV[4])
if tonumber(ARGV[2]) > redis.call('PTTL', KEYS[1]) then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 1`)

	// KEYS rate of a signing key. ARGV now (µs), lead (µs), quota, interval (µs), what was sent. returns {how much of it passes, the
	// instant, the state}, calculated as in players.lua.
	keyScript = redis.NewScript(`
local now, interval = tonumber(ARGV[1]), tonumber(ARGV[4])
local state = redis.call('HMGET', KEYS[1], 'now', 'key')
local at = math.max(now, math.min(tonumber(state[1] or '0'), now + tonumber(ARGV[2])))
local full = at + tonumber(ARGV[3]) * interval
local whole = math.max(tonumber(state[2] or '0'), at)
local cut = whole > full
whole = math.min(whole, full)
local admitted = math.min(tonumber(ARGV[5]), math.floor((full - whole) / interval))
whole = whole + admitted * interval
local out = {string.format('%.0f', admitted), string.format('%.0f', at), string.format('%.0f', whole)}
if admitted > 0 or cut then
  redis.call('HSET', KEYS[1], 'now', out[2], 'key', out[3])
  redis.call('PEXPIRE', KEYS[1], string.format('%.0f', math.ceil((whole - now) / 1000) + 60000))
end
return out`)
)

// generationLua has a function that puts a generation in place unless a later one is there, and gives the one that is there then.
const generationLua = `
local function later(session, generation, kept)
  local current = redis.call('GET', session)
  if current and tonumber(current) >= tonumber(generation) then
    return current
  end
  redis.call('SET', session, generation, 'PX', kept)
  return generation
end
`

// ofSession makes an enterAllScript's call one of the session's key that signed.
func (c call) ofSession(e Entry) call {
	return call{
		sessionScript, slices.Insert(slices.Clone(c.keys), 2, playerKey(e.Players[0].ID, "session")),
		append(slices.Clone(c.args), sessionFor.Milliseconds(), e.Generation, ""),
	}
}

// call is one script run on the keys of one hash slot.
type call struct {
	script *redis.Script
	keys   []string
	args   []any
}

// run runs the calls in one round trip and gives their answers. Scripts the server does not have yet cost a second one,
// which runs only the calls that did not run: a call must not be charged twice.
func (g *Gate) run(ctx context.Context, what string, calls ...call) ([]any, error) {
	replies := make([]*redis.Cmd, len(calls))
	_, err := g.Redis.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for i, c := range calls {
			replies[i] = c.script.EvalSha(ctx, pipe, c.keys, c.args...)
		}
		return nil
	})
	if missing(err) {
		_, err = g.Redis.Pipelined(ctx, func(pipe redis.Pipeliner) error {
			for i, c := range calls {
				if missing(replies[i].Err()) {
					replies[i] = c.script.Eval(ctx, pipe, c.keys, c.args...)
				}
			}
			return nil
		})
	}
	if err != nil {
		return nil, store.RedisError(what, err)
	}
	answers := make([]any, len(calls))
	for i, reply := range replies {
		answers[i], err = reply.Result()
		if err != nil {
			return nil, store.RedisError(what, err)
		}
	}
	return answers, nil
}

func missing(err error) bool { return redis.HasErrorPrefix(err, "NOSCRIPT") }

// texts reads a list of strings out of a script's answer.
func texts(answer any) ([]string, error) {
	list, ok := answer.([]any)
	if !ok {
		return nil, fmt.Errorf("a script answered %T, not a list", answer)
	}
	out := make([]string, len(list))
	for i, e := range list {
		if out[i], ok = e.(string); !ok {
			return nil, fmt.Errorf("a script answered %T, not a text", e)
		}
	}
	return out, nil
}
