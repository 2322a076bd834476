package app

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"liveops/core/signing"
)

// A hidden player sees himself ranked, on every route, and nobody else sees him, whether Redis answers or SQL.
func TestViewers(t *testing.T) {
	t.Parallel()
	e := newEnvironment(t)
	c := e.running(t)
	var bodies [][]byte
	for i := range 5 {
		bodies = append(bodies, acceptedBody(t, scoreText("s", fmt.Sprintf("p%d", i+1), "open-board", 100-i)))
	}
	require.Equal(t, http.StatusOK, c.invoke("progression", bodies...))
	require.NoError(t, c.app.ranking.Hide(t.Context(), "p3"))

	const board = "/v1/leaderboards/open-board"
	read := func(class signing.Class, target string) (players []string, answer map[string]any) {
		t.Helper()
		status, answer := c.ask(class, http.MethodGet, target, "")
		if status == http.StatusNotFound {
			return nil, answer
		}
		require.Equal(t, http.StatusOK, status, "%s: %v", target, answer)
		for _, entry := range answer["entries"].([]any) {
			row := entry.(map[string]any)
			players = append(players, fmt.Sprint(row["rank"], " ", row["tied_rank"], " ", row["player_id"]))
		}
		return players, answer
	}
	check := func(where string) {
		t.Helper()
		without := []string{"1 1 p1", "2 2 p2", "3 3 p4", "4 4 p5"}
		for _, viewer := range []string{"", "?viewer=p1", "?viewer=nobody"} {
			got, answer := read(signing.Client, board+viewer)
			require.Equal(t, without, got, where+viewer)
			require.EqualValues(t, 4, answer["count"], where+viewer)
			_, answer = read(signing.Client, board+"/players/p3"+viewer)
			require.Equal(t, "not-ranked", answer["code"], where+viewer)
			_, answer = read(signing.Server, board+"/players/p3/around"+viewer)
			require.Equal(t, "not-ranked", answer["code"], where+viewer)
		}
		got, _ := read("", board)
		require.Equal(t, without, got, where)

		with := []string{"1 1 p1", "2 2 p2", "3 3 p3", "4 4 p4", "5 5 p5"}
		got, answer := read(signing.Client, board+"?viewer=p3&limit=2")
		require.Equal(t, with[:2], got, where)
		require.EqualValues(t, 5, answer["count"], where)
		got, _ = read(signing.Client, board+"?viewer=p3&limit=3&cursor="+answer["next"].(string))
		require.Equal(t, with[2:], got, where)
		got, _ = read(signing.Client, board+"/players/p3?viewer=p3")
		require.Equal(t, with[2:3], got, where)
		got, answer = read(signing.Client, board+"/players/p4/around?viewer=p3&limit=3")
		require.Equal(t, with[2:], got, where)
		require.EqualValues(t, 5, answer["count"], where)
	}
	check("Redis")
	e.redis.SetError("LOADING")
	check("SQL")
	e.redis.SetError("")

	for _, route := range []string{board, board + "/players/p1", board + "/players/p1/around"} {
		for target, class := range map[string]signing.Class{route + "?viewer=p%203": signing.Server, route + "?viewer=p3": ""} {
			status, answer := c.ask(class, http.MethodGet, target, "")
			require.Equal(t, http.StatusBadRequest, status, target)
			require.Equal(t, "malformed-request", answer["code"], target)
			require.Equal(t, []any{map[string]any{"pointer": "/viewer", "code": "field-out-of-range"}}, answer["errors"], target)
		}
	}
}
