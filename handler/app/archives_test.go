package app

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/require"

	"liveops/core/catalog"
	"liveops/core/season"
	"liveops/core/signing"
)

// archivedDay is an application a day after five players were ranked, and the closing of that day.
func archivedDay(t *testing.T) (*client, *time.Time) {
	t.Helper()
	e := newEnvironment(t)
	now := noon
	e.clock = func() time.Time { return now }
	c := e.running(t)
	c.ranked("open-board", 90, 80, 80, 70, 60)
	now = noon.Add(24 * time.Hour)
	require.Equal(t, http.StatusOK, c.invoke("archive"))
	return c, &now
}

// askAt gives an answer to a request that is signed at a time.
func (c *client) askAt(at time.Time, class signing.Class, method, target, body string) *httptest.ResponseRecorder {
	c.t.Helper()
	w := httptest.NewRecorder()
	c.handler.ServeHTTP(w, requestAt(c.t, at, class, method, target, []byte(body)))
	return w
}

func TestArchives(t *testing.T) {
	t.Parallel()
	c, now := archivedDay(t)
	const board = "/v1/leaderboards/open-board"

	list := answered[struct {
		Archives []struct {
			Window  struct{ ID string }
			Archive struct {
				Sequence, Entries, Kept int64
				Mismatches              *int64
				Root, Previous, Seal    string
			}
			Winner struct {
				Player string `json:"player_id"`
				Score  int64
			}
		}
		Next int64
	}](c, board+"/archives")
	require.Len(t, list.Archives, 1)
	one := list.Archives[0]
	require.Equal(t, "2026-11-22", one.Window.ID)
	require.Equal(t, []int64{1, 5, 5, 0, 90}, []int64{one.Archive.Sequence, one.Archive.Entries, one.Archive.Kept, *one.Archive.Mismatches, one.Winner.Score})
	require.Equal(t, "p1", one.Winner.Player)
	require.Empty(t, one.Archive.Previous)
	require.Zero(t, list.Next)

	const day = board + "/archives/2026-11-22"
	require.Equal(t, []string{"1 p1", "2 p2"}, answered[shown](c, day+"?limit=2").players())
	require.Equal(t, []string{"3 p3", "4 p4"}, answered[shown](c, day+"?limit=2&after=2").players())
	require.Equal(t, []string{"2 p2", "3 p3"}, answered[shown](c, day+"?limit=2&before=4").players())
	require.Empty(t, answered[shown](c, day+"?after=5").players())
	require.Equal(t, one.Archive.Seal, answered[shown](c, board+"?window=2026-11-22").Archive.Seal)

	keys := answered[jose.JSONWebKeySet](c, "/v1/receipts/keys")
	proof := c.askAt(*now, "", http.MethodGet, day+"/players/p4", "")
	require.Equal(t, http.StatusOK, proof.Code)
	found, err := season.VerifyFile(keys, bytes.NewReader(proof.Body.Bytes()))
	require.NoError(t, err)
	require.Equal(t, "p4", found.Row.Player)
	require.EqualValues(t, 4, found.Row.Rank)

	file := c.askAt(*now, signing.Server, http.MethodGet, day+"/export", "")
	require.Equal(t, http.StatusOK, file.Code, "%s", file.Body)
	require.Equal(t, "application/x-ndjson", file.Header().Get("Content-Type"))
	require.Equal(t, `attachment; filename="open-board-2026-11-22.ndjson"`, file.Header().Get("Content-Disposition"))
	whole, err := season.VerifyFile(keys, bytes.NewReader(file.Body.Bytes()))
	require.NoError(t, err)
	require.Nil(t, whole.Row)
	require.EqualValues(t, 5, whole.Entries)

	table := c.askAt(*now, signing.Admin, http.MethodGet, day+"/export?format=csv", "")
	require.Equal(t, "text/csv; charset=utf-8", table.Header().Get("Content-Type"))
	rows, err := csv.NewReader(table.Body).ReadAll()
	require.NoError(t, err)
	require.Equal(t, []string{"rank", "tied_rank", "player_id", "score", "achieved_at", "event_id", "metadata"}, rows[0])
	require.Equal(t, []string{"3", "2", "p3", "80", "2026-11-22T12:00:00.000Z", "s80", ""}, rows[3])
	require.Len(t, rows, 6)

	hall := answered[struct {
		Windows []struct {
			Window struct{ ID string }
			Places []struct {
				Rank   int64
				Player string `json:"player_id"`
			}
		}
		Champions []struct {
			Player string `json:"player_id"`
			Wins   int
		}
	}](c, board+"/hall-of-fame?cadence=daily")
	require.Len(t, hall.Windows, 1)
	require.Len(t, hall.Windows[0].Places, 3, "as many as the catalog remembers")
	require.Equal(t, "p1", hall.Champions[0].Player)

	for target, want := range map[string]string{
		board + "/archives?cadence=weekly": "malformed-request", board + "/archives?before=0": "malformed-request", day + "?after=x": "malformed-request",
		"/v1/leaderboards/no-board/hall-of-fame": "board-not-found", day + "/players/nobody": "not-ranked",
		board + "/archives/2026-11-23": "window-not-archived", board + "/archives/2026-11-02": "window-not-found",
	} {
		var problem struct{ Code string }
		w := c.askAt(*now, "", http.MethodGet, target, "")
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &problem))
		require.Equal(t, want, problem.Code, target)
	}
	require.Equal(t, http.StatusBadRequest, c.askAt(*now, signing.Server, http.MethodGet, day+"/export?format=xml", "").Code)
}

// What is left of a board that the catalog has no more is not for everybody: it may not have been public.
func TestArchivesOfABoardThatIsGone(t *testing.T) {
	t.Parallel()
	c, now := archivedDay(t)
	game := *c.app.catalog.Load()
	game.Boards = map[string]catalog.Board{"aged-board": game.Boards["aged-board"]}
	c.app.catalog.Store(&game)
	for _, rest := range []string{"/archives/2026-11-22", "/archives/2026-11-22/players/p1"} {
		require.Equal(t, http.StatusNotFound, c.askAt(*now, "", http.MethodGet, "/v1/leaderboards/open-board"+rest, "").Code, rest)
		require.Equal(t, http.StatusOK, c.askAt(*now, signing.Server, http.MethodGet, "/v1/leaderboards/open-board"+rest, "").Code, rest)
	}
}

// What comes after the grace is not ranked, and says so.
func TestALateScoreIsNotRanked(t *testing.T) {
	t.Parallel()
	c, now := archivedDay(t)
	require.Equal(t, http.StatusOK, c.invoke("progression", acceptedBody(t, scoreText("late", "eve", "open-board", 50))))
	for id, want := range map[string]map[string]any{"late": {"ranked": false, "reason": "window-closed"}, "s90": {"ranked": true}} {
		player := map[string]string{"late": "eve", "s90": "p1"}[id]
		w := c.askAt(*now, signing.Server, http.MethodGet, "/v1/players/"+player+"/events/"+id, "")
		answer := map[string]any{}
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &answer))
		require.Equal(t, want["ranked"], answer["ranked"], id)
		require.Equal(t, want["reason"], answer["reason"], id)
	}
	require.Len(t, answered[shown](c, "/v1/leaderboards/open-board?window=2026-11-22").Entries, 5)
	require.Empty(t, answered[shown](c, "/v1/leaderboards/open-board").Entries, "it does not slip into the next window")
}

// A window that is archived while it is read is answered from the archive: its rows are gone.
func TestAWindowIsArchivedDuringARead(t *testing.T) {
	t.Parallel()
	e := newEnvironment(t)
	now := noon
	e.clock = func() time.Time { return now }
	c := e.running(t)
	c.ranked("open-board", 90, 80)
	now = noon.Add(24 * time.Hour)
	in, err := c.app.windows.Get(t.Context(), "open-board", "2026-11-22")
	require.NoError(t, err)
	final, err := c.app.live(request(t, "", http.MethodGet, "/v1/leaderboards/open-board", nil), &in, func() error {
		require.Equal(t, http.StatusOK, c.invoke("archive"))
		return fmt.Errorf("there is nothing left")
	})
	require.True(t, final, "%v", err)
	require.True(t, in.State.Final())
}

func TestWindowsByHand(t *testing.T) {
	t.Parallel()
	e := newEnvironment(t)
	now := noon
	e.clock = func() time.Time { return now }
	c := e.running(t)
	c.ranked("open-board", 90, 80)
	ask := func(method, target, body, order string) (int, map[string]any) {
		t.Helper()
		r := requestAt(t, now, "", method, target, []byte(body))
		if r.Header.Del(signing.HeaderIdempotency); order != "" {
			r.Header.Set(signing.HeaderIdempotency, order)
		}
		require.NoError(t, signing.SignHTTP(r, key(signing.Admin), []byte(body), now, signing.NewNonce()))
		w := httptest.NewRecorder()
		c.handler.ServeHTTP(w, r)
		answer := map[string]any{}
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &answer), "%s", w.Body)
		return w.Code, answer
	}
	const windows = "/v1/operations/windows"
	const day = windows + "/open-board/2026-11-22"

	status, answer := ask(http.MethodPost, day+"/extend", `{"reason":"the servers were down","until":"2026-11-23T06:00:00Z"}`, "one")
	require.Equal(t, http.StatusOK, status, "%v", answer)
	delete(answer, "id")
	require.Equal(t, map[string]any{
		"board": "open-board", "window": "2026-11-22", "action": "extend", "at": "2026-11-22T12:00:00.000Z", "actor": "admin",
		"reason": "the servers were down", "ended": "2026-11-23T00:00:00.000Z", "ends": "2026-11-23T06:00:00.000Z", "next": "2026-11-23",
	}, answer)
	now = now.Add(time.Minute)
	status, again := ask(http.MethodPost, day+"/extend", `{"reason":"the servers were down","until":"2026-11-23T06:00:00Z"}`, "one")
	require.Equal(t, http.StatusOK, status)
	delete(again, "id")
	require.Equal(t, answer, again, "an order is done once")
	status, answer = ask(http.MethodPost, day+"/close", `{"reason":"the servers were down"}`, "one")
	require.Equal(t, http.StatusUnprocessableEntity, status)
	require.Equal(t, "idempotency-key-reused", answer["code"])

	require.NoError(t, c.app.ranking.Drop(t.Context(), "open-board", "2026-11-22"))
	status, answer = ask(http.MethodPost, day+"/rebuild", `{"reason":"to be sure"}`, "two")
	require.Equal(t, http.StatusOK, status, "%v", answer)
	require.NotEmpty(t, e.redis.Keys())

	now = now.Add(time.Minute)
	status, answer = ask(http.MethodPost, day+"/close", `{"reason":"enough"}`, "three")
	require.Equal(t, http.StatusOK, status, "%v", answer)
	require.Equal(t, "2026-11-22T12:02:00.001Z", answer["ends"])
	now = now.Add(time.Minute)
	_, answer = ask(http.MethodGet, day, "", "")
	require.Equal(t, "2026-11-22T12:02:00.001Z", answer["ends_at"])
	var kinds []any
	for _, a := range answer["actions"].([]any) {
		kinds = append(kinds, a.(map[string]any)["action"])
	}
	require.ElementsMatch(t, []any{"close", "rebuild", "extend"}, kinds)
	_, answer = ask(http.MethodGet, windows+"?board=open-board&limit=2", "", "")
	require.Len(t, answer["windows"], 2)
	_, answer = ask(http.MethodGet, windows, "", "")
	require.GreaterOrEqual(t, len(answer["windows"].([]any)), 3)
	require.Equal(t, "2026-11-23", answered[shown](c, "/v1/leaderboards/open-board").Window.ID, "the next one took over")

	for i, test := range []struct{ target, body, code string }{
		{day + "/close", `{"reason":"again"}`, "window-not-running"},
		{day + "/extend", `{"reason":"later"}`, "request-invalid"},
		{day + "/close", `{"reason":"later","until":"2026-11-23T06:00:00Z"}`, "request-invalid"},
		{day + "/extend", `{"reason":"later","until":"soon"}`, "request-invalid"},
		{day + "/close", `{"reason":" "}`, "request-invalid"},
		{day + "/close", `{"why":"x"}`, "request-invalid"},
		{windows + "/aged-board/all_time/close", `{"reason":"x"}`, "window-endless"},
		{windows + "/open-board/nothing/close", `{"reason":"x"}`, "window-not-found"},
	} {
		_, answer := ask(http.MethodPost, test.target, test.body, fmt.Sprint("wrong-", i))
		require.Equal(t, test.code, answer["code"], "%s %s: %v", test.target, test.body, answer)
	}
	_, answer = ask(http.MethodPost, day+"/close", `{"reason":"x"}`, "")
	require.Equal(t, "idempotency-key-missing", answer["code"])
}
