package app

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"liveops/core/signing"
)

// shown is as much of a ranking as tests look at.
type shown struct {
	Entries []struct {
		Rank     int64
		TiedRank int64  `json:"tied_rank"`
		Player   string `json:"player_id"`
		Score    int64
	}
	Window     struct{ ID, State string }
	Count      int64
	Next, Prev string
	Rank       int64
	TiedRank   int64 `json:"tied_rank"`
	Percentile float64
	Archive    *struct {
		Sequence int64
		Seal     string
	}
}

// players is the entries as "rank player".
func (s shown) players() []string {
	list := []string{}
	for _, e := range s.Entries {
		list = append(list, fmt.Sprint(e.Rank, " ", e.Player))
	}
	return list
}

// ranked submits scores of p1, p2, … to a board.
func (c *client) ranked(board string, scores ...int) {
	c.t.Helper()
	var bodies [][]byte
	for i, score := range scores {
		bodies = append(bodies, acceptedBody(c.t, scoreText(fmt.Sprint("s", score), fmt.Sprintf("p%d", i+1), board, score)))
	}
	require.Equal(c.t, http.StatusOK, c.invoke("progression", bodies...))
}

func TestReadsOfABoard(t *testing.T) {
	t.Parallel()
	e := newEnvironment(t)
	now := noon
	e.clock = func() time.Time { return now }
	c := e.running(t)
	c.ranked("open-board", 90, 80, 80, 70, 60)
	const board = "/v1/leaderboards/open-board"

	check := func(where string) {
		first := answered[shown](c, board+"?limit=2")
		require.Equal(t, []string{"1 p1", "2 p2"}, first.players(), where)
		require.Equal(t, "2026-11-22", first.Window.ID)
		require.EqualValues(t, 5, first.Count, where)
		require.Empty(t, first.Prev, where)
		second := answered[shown](c, board+"?limit=2&cursor="+first.Next)
		require.Equal(t, []string{"3 p3", "4 p4"}, second.players(), where)
		require.EqualValues(t, 2, second.Entries[0].TiedRank, where)
		back := answered[shown](c, board+"?limit=2&cursor="+second.Prev)
		require.Equal(t, first.players(), back.players(), where)
		last := answered[shown](c, board+"?limit=2&cursor="+second.Next)
		require.Equal(t, []string{"5 p5"}, last.players(), where)
		require.Empty(t, last.Next, where)

		one := answered[shown](c, board+"/players/p4")
		require.Equal(t, []string{"4 p4"}, one.players(), where)
		require.EqualValues(t, 5, one.Count, where)
		require.InDelta(t, 40, one.Percentile, 0, where)
		around := answered[shown](c, board+"/players/p4/around?limit=3")
		require.Equal(t, []string{"3 p3", "4 p4", "5 p5"}, around.players(), where)
		require.Equal(t, second.players(), answered[shown](c, board+"?limit=2&cursor="+last.Prev).players(), where)

		friends := answered[shown](c, board+"/players?id=p5,p1,nobody&id=p1")
		require.Equal(t, []string{"1 p1", "5 p5"}, friends.players(), where)
		require.EqualValues(t, 5, friends.Count, where)

		would := answered[shown](c, board+"/rank?score=80")
		require.Equal(t, []int64{4, 2, 5}, []int64{would.Rank, would.TiedRank, would.Count}, where)
		require.InDelta(t, 50, would.Percentile, 0, "%s: the fourth of six would be as good as or better than three", where)
	}
	check("Redis")
	e.redis.SetError("LOADING")
	check("SQL")
	e.redis.SetError("")

	for target, pointer := range map[string]string{
		"/players": "/id", "/players?id=": "/id", "/players?id=a%20b": "/id", "/players?id=" + strings.Repeat("p,", 100) + "p": "/id",
		"/rank": "/score", "/rank?score=many": "/score", "/rank?score=9007199254740992": "/score", "?limit=0": "/limit", "?limit=101": "/limit",
	} {
		status, answer := c.ask("", http.MethodGet, board+target, "")
		if pointer == "/id" && strings.HasPrefix(target, "/players?id=p,p,") {
			require.Equal(t, http.StatusOK, status, "a hundred times the same is one")
			continue
		}
		require.Equal(t, http.StatusBadRequest, status, target)
		require.Equal(t, []any{map[string]any{"pointer": pointer, "code": "field-out-of-range"}}, answer["errors"], target)
	}

	// A cursor knows when its window is over, and where what became of it is.
	cursor := answered[shown](c, board+"?limit=2").Next
	expired := func() {
		t.Helper()
		for _, window := range []string{"", "&window=daily", "&window=2026-11-22"} {
			if window == "&window=2026-11-22" && answered[shown](c, board+"?window=2026-11-22").Archive == nil {
				continue // that one is still there
			}
			status, answer := c.ask("", http.MethodGet, board+"?limit=2"+window+"&cursor="+cursor, "")
			if status == http.StatusOK { // named by nobody, it is read on from a window that is still there
				require.Empty(t, window)
				continue
			}
			require.Equal(t, http.StatusGone, status, window)
			require.Equal(t, "cursor-expired", answer["code"])
			require.Equal(t, "2026-11-22", answer["window"])
			require.Equal(t, board+"/archives/2026-11-22", answer["archive"])
		}
	}
	now = noon.Add(12*time.Hour + time.Minute)
	require.Equal(t, http.StatusOK, c.invoke("archive"))
	require.Equal(t, []string{"3 p3", "4 p4"}, answered[shown](c, board+"?limit=2&cursor="+cursor).players(), "it is closing, and can be read")
	expired()
	now = noon.Add(24 * time.Hour)
	require.Equal(t, http.StatusOK, c.invoke("archive"))
	expired()
	status, answer := c.ask("", http.MethodGet, board+"?cursor=AAAA", "")
	require.Equal(t, http.StatusBadRequest, status)
	require.Equal(t, "malformed-cursor", answer["code"])
	status, answer = c.ask("", http.MethodGet, "/v1/leaderboards/aged-board?cursor="+cursor, "")
	require.Equal(t, http.StatusBadRequest, status, "it is of another board: %v", answer)

	// The archive answers what is asked of a window that is over.
	require.Equal(t, []string{"4 p4", "5 p5"}, answered[shown](c, board+"/players?window=2026-11-22&id=p5,p4,nobody").players())
	place := answered[shown](c, board+"/players/p4?window=2026-11-22")
	require.Equal(t, []string{"4 p4"}, place.players())
	require.InDelta(t, 40, place.Percentile, 0)
	status, answer = c.ask("", http.MethodGet, board+"/rank?score=80&window=2026-11-22", "")
	require.Equal(t, http.StatusConflict, status)
	require.Equal(t, "window-closed", answer["code"])
}

func TestTheListOfBoards(t *testing.T) {
	t.Parallel()
	c := newEnvironment(t).running(t)
	status, answer := c.ask(signing.Client, http.MethodGet, "/v1/leaderboards", "")
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, map[string]any{
		"board": "aged-board", "operator": "best", "order": "desc", "zone": "UTC", "public": true, "entry": []any{},
		"metadata": map[string]any{"title": "Old"}, "windows": []any{map[string]any{"id": "all_time", "cadence": "all_time", "state": "open"}},
	}, answer["boards"].([]any)[0])
	require.Equal(t, map[string]any{
		"board": "open-board", "operator": "sum", "order": "desc", "zone": "UTC", "public": true, "entry": []any{}, "metadata": map[string]any{},
		"windows": []any{map[string]any{
			"id": "2026-11-22", "cadence": "daily", "state": "open", "seconds_left": 43200.0,
			"starts_at": "2026-11-22T00:00:00.000Z", "ends_at": "2026-11-23T00:00:00.000Z",
		}},
	}, answer["boards"].([]any)[1])
}

// Where a board lets answers be old, they are found once, and who has one is told that it still holds.
func TestAgedReads(t *testing.T) {
	t.Parallel()
	e := newEnvironment(t)
	c := e.running(t)
	c.ranked("aged-board", 90, 80)
	c.ranked("open-board", 90, 80)
	ask := func(class signing.Class, target, tag string) *httptest.ResponseRecorder {
		t.Helper()
		r := request(t, class, http.MethodGet, target, nil)
		if tag != "" {
			r.Header.Set("If-None-Match", tag)
		}
		w := httptest.NewRecorder()
		c.handler.ServeHTTP(w, r)
		return w
	}
	const board = "/v1/leaderboards/aged-board"
	first := ask("", board, "")
	require.Equal(t, http.StatusOK, first.Code)
	require.Equal(t, "public, max-age=60", first.Header().Get("Cache-Control"))
	tag := first.Header().Get("ETag")
	require.Regexp(t, `^W/"[\w-]{16}"$`, tag)
	for _, have := range []string{tag, strings.TrimPrefix(tag, "W/"), `"other", ` + tag, "*"} {
		again := ask("", board, have)
		require.Equal(t, http.StatusNotModified, again.Code, have)
		require.Empty(t, again.Body.Bytes())
		require.Equal(t, tag, again.Header().Get("ETag"))
	}
	require.Equal(t, http.StatusOK, ask("", board, `W/"other"`).Code)
	signed := ask(signing.Client, board, "")
	require.Equal(t, "private, max-age=60", signed.Header().Get("Cache-Control"))
	require.Equal(t, first.Body.Bytes(), signed.Body.Bytes())

	c.ranked("aged-board", 10, 99)
	require.Equal(t, first.Body.Bytes(), ask("", board, "").Body.Bytes(), "as old as it may be")
	require.Equal(t, first.Body.Bytes(), ask("", board+"?made=up", "").Body.Bytes())
	require.Contains(t, ask(signing.Client, board+"?viewer=p1", "").Body.String(), `"score":99`, "what one player sees is found anew")
	require.NotEqual(t, tag, ask("", board+"?limit=1", "").Header().Get("ETag"), "another question")
	status, _ := c.ask("", http.MethodGet, board+"?limit=200", "")
	require.Equal(t, http.StatusBadRequest, status)
	require.Equal(t, http.StatusOK, ask(signing.Server, board+"?limit=200", "").Code, "what is not good for one is for another")

	fresh := ask("", "/v1/leaderboards/open-board", "")
	require.Equal(t, "no-store", fresh.Header().Get("Cache-Control")+fresh.Header().Get("ETag"))

	// Nothing is kept of what failed.
	require.NoError(t, c.app.db.Close())
	e.redis.SetError("LOADING")
	require.Equal(t, http.StatusServiceUnavailable, ask("", board+"?limit=3", "").Code)
	e.redis.SetError("")
	require.Equal(t, http.StatusOK, ask("", board+"?limit=3", "").Code, "its window was read a moment ago")
}
