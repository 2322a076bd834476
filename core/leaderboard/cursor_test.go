package leaderboard

import (
	"encoding/base64"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"liveops/core/event"
	"liveops/core/fault"
	"liveops/core/store"
	"liveops/core/store/storetest"
)

func longestCursor() cursor {
	return cursor{
		board: strings.Repeat("b", event.MaxID), window: strings.Repeat("w", 32), before: true, score: -event.MaxInteger,
		member: member(at(latestAt), strings.Repeat("p", event.MaxPlayerID)),
	}
}

func TestCursorRoundTrip(t *testing.T) {
	t.Parallel()
	c := cursors{key: cursorKey}
	for _, want := range []cursor{{}, longestCursor(), {board: "best", window: "2026-W48", score: 7, member: member(at(5), "ann")}} {
		got, err := c.open(c.seal(want))
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
}

func TestCursorForged(t *testing.T) {
	t.Parallel()
	c := cursors{key: cursorKey}
	genuine := c.seal(cursor{board: "best", window: "w", score: 7, member: member(at(5), "ann")})
	forged := []string{
		"", "x", "!", strings.Repeat("A", 10_000), genuine + "A", genuine + "=", genuine[1:], genuine[:len(genuine)-1], " " + genuine, genuine + "\n",
		cursors{key: slices.Concat(cursorKey, []byte("x"))}.seal(cursor{board: "best", window: "w"}),
		base64.RawURLEncoding.EncodeToString(c.mac(nil)), // a proper MAC of nothing
	}
	for i := range genuine {
		b := []byte(genuine)
		b[i] = 'A'
		if genuine[i] == 'A' {
			b[i] = 'B'
		}
		forged = append(forged, string(b))
	}
	for _, text := range forged {
		_, err := c.open(text)
		require.ErrorIs(t, err, fault.MalformedCursor, text)
		require.ErrorIs(t, err, fault.Malformed, text)
	}
}

func TestCursorIsBoundToItsWindow(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB, rdb *redis.Client) {
		r := newRanking(t, db, rdb)
		mergeScores(t, db, tied("best", "2026-11-22", 10)...)
		page, err := r.Top(t.Context(), Query{Board: "best", Window: "2026-11-22", Limit: 5})
		require.NoError(t, err)

		_, err = r.Page(t.Context(), Query{Board: "best", Window: "2026-11-23", Limit: 5, Cursor: page.Next})
		require.ErrorIs(t, err, fault.CursorExpired)
		require.ErrorIs(t, err, fault.Gone)
		require.Equal(t, map[string]any{"window": "2026-11-22"}, asFault(t, err).Extra)
		_, err = r.Page(t.Context(), Query{Board: "sum", Window: "2026-11-22", Limit: 5, Cursor: page.Next})
		require.ErrorIs(t, err, fault.MalformedCursor)
		_, err = r.Page(t.Context(), Query{Board: "best", Window: "2026-11-22", Limit: 5, Cursor: page.Next + "A"})
		require.ErrorIs(t, err, fault.MalformedCursor)

		board, window, err := r.CursorWindow(page.Next)
		require.NoError(t, err)
		require.Equal(t, []string{"best", "2026-11-22"}, []string{board, window})
		_, _, err = r.CursorWindow("nonsense")
		require.ErrorIs(t, err, fault.MalformedCursor)
	})
}

// FuzzCursor opens anything without trouble, and nothing that it would not have made itself. Texts are also tried with a
// proper MAC, or the fuzzer would never get past it.
func FuzzCursor(f *testing.F) {
	c := cursors{key: cursorKey}
	f.Add(c.seal(longestCursor()))
	f.Add(c.seal(cursor{}))
	f.Add("")
	f.Add("\x01\x00\xff")
	f.Add("\x01\x00\x01b\x01w\x0d000000000001p\x00\x00\x00\x00\x00\x00\x00\x01")
	f.Fuzz(func(t *testing.T, text string) {
		if at, err := c.open(text); err == nil {
			require.Equal(t, text, c.seal(at))
		} else {
			require.ErrorIs(t, err, fault.MalformedCursor)
		}
		signed := base64.RawURLEncoding.EncodeToString(append([]byte(text), c.mac([]byte(text))...))
		if at, err := c.open(signed); err == nil {
			again, err := c.open(c.seal(at))
			require.NoError(t, err)
			require.Equal(t, at, again)
		}
	})
}
