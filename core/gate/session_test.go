package gate_test

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"liveops/core/catalog"
	"liveops/core/fault"
	"liveops/core/gate"
	"liveops/core/store/storetest"
)

// truth is what SQL says of a player's generation, and how often it was asked.
type truth struct {
	generation int64
	asked      int
	err        error
}

func (q *truth) ask(context.Context, string) (int64, error) {
	q.asked++
	return q.generation, q.err
}

// session is a request of a session's key of eve's.
func (f *fixture) session(generation int64, key string, events int) gate.Entry {
	e := f.entry(key, "body", player("eve", events))
	e.KeyID, e.KeyClass, e.Session, e.Generation = "ses.eve.s.1.0", "session", true, generation
	return e
}

func TestRevokedSessions(t *testing.T) {
	t.Parallel()
	storetest.EachRedis(t, func(t *testing.T, rdb *redis.Client) {
		f, sql := newFixture(rdb), &truth{generation: 2}
		f.Generation = sql.ask
		ctx := t.Context()
		enter := func(generation int64, key string, events int) error {
			pass, err := f.Enter(ctx, f.session(generation, key, events))
			if err == nil {
				require.Len(t, pass.Players, 1)
				require.Len(t, pass.Players[0].Events, events)
			}
			return err
		}
		require.ErrorIs(t, enter(1, "", 0), fault.SessionRevoked, "Redis knows nothing: SQL does")
		require.NoError(t, enter(2, "", 0))
		require.NoError(t, enter(2, "a", 3))
		require.Equal(t, 1, sql.asked, "Redis knows it from then on")

		require.NoError(t, f.Revoke(ctx, map[string]int64{"eve": 3, "bob": 1}))
		require.NoError(t, f.Revoke(ctx, map[string]int64{"eve": 2}), "late")
		require.NoError(t, f.Revoke(ctx, nil))
		require.ErrorIs(t, enter(2, "a", 3), fault.SessionRevoked, "even a stored answer is not given any more")
		require.ErrorIs(t, enter(2, "", 0), fault.SessionRevoked)
		require.NoError(t, enter(3, "", 0))
		require.NoError(t, enter(5, "", 0), "a key of the fifth was made, so the fourth is over")
		require.ErrorIs(t, enter(4, "", 0), fault.SessionRevoked)
		require.Equal(t, 1, sql.asked)

		require.NoError(t, rdb.Del(ctx, "gate:{eve}:session").Err())
		sql.generation = 6
		require.ErrorIs(t, enter(5, "", 0), fault.SessionRevoked, "what Redis lost revives nothing")
		require.NoError(t, rdb.Del(ctx, "gate:{eve}:session").Err())
		sql.err = fault.DatabaseUnavailable.Errorf("down")
		require.ErrorIs(t, enter(6, "", 0), fault.DatabaseUnavailable)
		require.ErrorIs(t, enter(6, "b", 1), fault.DatabaseUnavailable)
		sql.err = nil
		require.NoError(t, enter(6, "b", 1))
		left, err := rdb.PTTL(ctx, "gate:{eve}:session").Result()
		require.NoError(t, err)
		require.Greater(t, left, 23*time.Hour)
	})
}

// A revoked key uses no nonce and no idempotency key, and one that is not is ruled on as any other.
func TestASessionIsRuledOnAsOthers(t *testing.T) {
	t.Parallel()
	storetest.EachRedis(t, func(t *testing.T, rdb *redis.Client) {
		f, sql := newFixture(rdb), &truth{generation: 1}
		f.Generation = sql.ask
		f.game.Fairness.Keys = map[string]catalog.Rate{"session": rate(50, time.Minute)}
		ctx := t.Context()
		e := f.session(0, "a", 2)
		_, err := f.Enter(ctx, e)
		require.ErrorIs(t, err, fault.SessionRevoked)
		e.Generation = 1
		pass, err := f.Enter(ctx, e)
		require.NoError(t, err)
		require.Equal(t, []gate.Verdict{gate.Admitted, gate.Admitted}, pass.Players[0].Events)
		require.Equal(t, 50, pass.Key.Limit.Quota)
		require.NoError(t, f.Leave(ctx, pass, gate.Leaving{Answer: &gate.Answer{Status: 202, Body: []byte("done")}, Accepted: e.Players}))
		again, err := f.Enter(ctx, e)
		require.NoError(t, err)
		require.Equal(t, "done", string(again.Replay.Body))
		e = f.session(1, "", 0)
		_, err = f.Enter(ctx, e)
		require.NoError(t, err)
		_, err = f.Enter(ctx, e)
		require.ErrorIs(t, err, fault.NonceReplayed)

		require.NoError(t, f.Block(ctx, "eve", gate.Block{Reason: "sold", Until: f.Now().Add(time.Hour), Ban: true}))
		pass, err = f.Enter(ctx, f.session(1, "", 0))
		require.NoError(t, err)
		require.True(t, pass.Players[0].Blocked.Ban)

		for _, key := range rdb.Keys(ctx, "*").Val() {
			require.Regexp(t, `^gate:\{eve\}:(session|block|rate|seen|nonce:ses\.eve\.s\.1\.0:nonce-\d+|request:[A-Za-z0-9_-]{22})$|^gate:\{k\.ses\.eve\.s\.1\.0\}:rate$`, key)
			require.Positive(t, rdb.PTTL(ctx, key).Val(), key)
		}

		several := f.session(1, "", 0)
		several.Players = append(several.Players, player("bob", 0))
		_, err = f.Enter(ctx, several)
		require.ErrorContains(t, err, "speaks for one player, not for 2")
		require.ErrorContains(t, f.Revoke(ctx, map[string]int64{"a}b": 1}), "no player can have that id")
	})
}
