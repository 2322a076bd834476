package stack_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/require"

	"liveops/core/season"
	"liveops/core/signing"
	"liveops/local/oracle"
	"liveops/local/replay"
)

// november is the boards of testdata/november.yaml.
var november = []struct{ name, from, zone string }{
	{"rating", "rating", "UTC"},
	{"rating-ny", "rating", "America/New_York"},
	{"points", "points", "UTC"},
	{"points-ny", "points", "America/New_York"},
}

// TestNovember plays a month in simulated time through windows of two zones, one of which leaves daylight saving time meanwhile,
// and compares every archive, row by row, with what the recording says by itself; the champions and the rewards too.
func TestNovember(t *testing.T) {
	t.Parallel()
	t.Run("sample", func(t *testing.T) {
		t.Parallel()
		eachBackend(t, func(t *testing.T, b backend) {
			games := oracle.MakeUp(200, 40)
			oracle.EndAt(games, time.Date(2026, 11, 5, 3, 0, 0, 0, time.UTC))
			playNovember(t, b, games, month{
				begins: time.Date(2026, 10, 26, 0, 0, 0, 0, time.UTC), season: oracle.Season{ID: "s2026-11", Starts: "2026-11-01", Ends: "2026-11-06"}, days: 5,
			})
		})
	})
	t.Run("real", func(t *testing.T) {
		t.Parallel()
		if raced {
			t.Skip("takes many minutes under the race detector, which has seen the sample")
		}
		path, found := oracle.Recorded("lichess_rapid_2022_11.csv.gz")
		if !found {
			t.Skip("the recorded games do not lie beside the repository (LIVEOPS_DATA)")
		}
		playNovember(t, realBackend(t), opened(t, path, oracle.ReadGames), month{
			begins: time.Date(2022, 11, 1, 0, 0, 0, 0, time.UTC), season: oracle.Season{ID: "s2022-11", Starts: "2022-11-01", Ends: "2022-12-01"},
			days: 30, complete: true,
		})
	})
}

type month struct {
	begins   time.Time
	season   oracle.Season
	days     int  // of the season
	complete bool // there are games on every one of them
}

func playNovember(t *testing.T, b backend, games []oracle.Game, m month) {
	s := start(t, b.standing(m.begins), "november", m.begins)
	sent := oracle.Events(games)
	recording, err := replay.Read(ndjson(t, sent))
	require.NoError(t, err)
	ends, err := time.Parse(time.DateOnly, m.season.Ends)
	require.NoError(t, err)
	until := ends.AddDate(0, 0, 7) // the weeks that the month ends in are over too
	report, err := s.player().Follow(t.Context(), recording, s.Stack, until)
	require.NoError(t, err)
	require.Empty(t, report.Rejected)
	require.Equal(t, len(sent), report.Accepted)
	require.True(t, s.Idle())
	require.Zero(t, s.rows(t, "ledger WHERE notes IS NOT NULL"), "no score came too late")

	var keys jose.JSONWebKeySet
	_, text := s.send(t, signing.Server, http.MethodGet, "/v1/receipts/keys", nil, nil)
	require.NoError(t, json.Unmarshal(text, &keys), "%s", text)
	earned := map[string]int64{}
	for _, board := range november {
		closed, err := oracle.Closed(sent, board.name, board.from, board.zone, []oracle.Season{m.season})
		require.NoError(t, err)
		s.archives(t, keys, board.name, maps.Clone(closed), m)
		if board.name == "points" {
			for w, order := range closed {
				if w.Cadence == "daily" {
					reward(earned, order, 1, 100, func(rank, n int) bool { return (rank-1)*100 < n }, 10)
				}
			}
			s.medals(t, closed[oracle.Window{Board: "points", Cadence: "season", ID: m.season.ID}])
		}
		if board.name == "points-ny" {
			for w, order := range closed {
				if w.Cadence == "weekly" {
					reward(earned, order, 3, 50, func(int, int) bool { return false }, 0)
				}
			}
		}
	}

	catalog, err := oracle.ReadCatalog(filepath.Join("testdata", "november.yaml"))
	require.NoError(t, err)
	want := catalog.Compute(sent, m.begins)
	for player, xp := range earned {
		want.XP[player] += xp
	}
	xp, _ := s.balances(t)
	require.Equal(t, want.XP, xp, "what was played and what places brought, once")
	items := s.items(t)
	for player := range items {
		delete(items[player], "medal") // those are compared above
		if len(items[player]) == 0 {
			delete(items, player)
		}
	}
	require.Equal(t, want.Items, items)
}

// reward adds what the first places of a window bring, and those beyond that are still within a share.
func reward(earned map[string]int64, order []oracle.Entry, first int, xp int64, within func(rank, entries int) bool, less int64) {
	for i, e := range order {
		switch rank := i + 1; {
		case rank <= first:
			earned[e.PlayerID] += xp
		case within(rank, len(order)):
			earned[e.PlayerID] += less
		}
	}
}

// archives compares the archives of a board with what they must be, checks their seals and the chain, and that nothing can be
// changed unnoticed.
func (s *system) archives(t *testing.T, keys jose.JSONWebKeySet, board string, want map[oracle.Window][]oracle.Entry, m month) {
	t.Helper()
	type listed struct {
		Window  struct{ ID, Cadence string }
		Archive struct {
			Sequence, Entries int64
			Mismatches        *int64
			Seal              string
		}
	}
	var list []listed
	for before := int64(0); ; {
		path := "/v1/leaderboards/" + board + "/archives?limit=7"
		if before > 0 {
			path += fmt.Sprintf("&before=%d", before)
		}
		var page struct {
			Archives []listed
			Next     int64
		}
		_, text := s.send(t, signing.Server, http.MethodGet, path, nil, nil)
		require.NoError(t, json.Unmarshal(text, &page), "%s", text)
		list = append(list, page.Archives...)
		if before = page.Next; before == 0 {
			break
		}
	}
	slices.Reverse(list)
	rng, days := rand.New(rand.NewPCG(1, 2)), 0
	var seals []string
	won := map[string]int{}
	for i, one := range list {
		require.EqualValues(t, i+1, one.Archive.Sequence, "each window is closed once")
		seals = append(seals, one.Archive.Seal)
		w := oracle.Window{Board: board, Cadence: one.Window.Cadence, ID: one.Window.ID}
		order, played := want[w]
		delete(want, w)
		require.EqualValues(t, len(order), one.Archive.Entries, "%v", w)
		require.NotNil(t, one.Archive.Mismatches, "%v was compared with Redis", w)
		require.Zero(t, *one.Archive.Mismatches, "%v", w)
		if w.Cadence == "daily" && w.ID >= m.season.Starts && w.ID < m.season.Ends {
			days++
			require.True(t, played || !m.complete, "%v", w)
		}
		response, file := s.send(t, signing.Server, http.MethodGet, "/v1/leaderboards/"+board+"/archives/"+w.ID+"/export", nil, nil)
		require.Equal(t, http.StatusOK, response.StatusCode, "%s", file)
		found, err := season.VerifyFile(keys, bytes.NewReader(file))
		require.NoError(t, err, "%v", w)
		require.Equal(t, w.ID, found.Window)
		rows := []oracle.Entry{}
		for line := range strings.Lines(string(file)) {
			var e oracle.Entry
			require.NoError(t, json.Unmarshal([]byte(line), &e))
			rows = append(rows, e)
		}
		require.Equal(t, append([]oracle.Entry{}, order...), rows[1:], "%v, after the line of the seal", w)
		if played && w.Cadence == "daily" {
			won[order[0].PlayerID]++
		}

		spoilt := slices.Clone(file)
		at := rng.IntN(len(spoilt) - 1) // but for the last line feed, which says nothing
		spoilt[at] ^= 1 << rng.IntN(8)
		_, err = season.VerifyFile(keys, bytes.NewReader(spoilt))
		require.Error(t, err, "%v: byte %d is %q instead of %q", w, at, spoilt[at], file[at])
	}
	require.Empty(t, want, "no window was left out")
	require.Equal(t, m.days, days)
	_, err := season.VerifyChain(keys, seals)
	require.NoError(t, err)
	_, err = season.VerifyChain(keys, slices.Delete(slices.Clone(seals), len(seals)/2, len(seals)/2+1))
	require.ErrorIs(t, err, season.ErrChain)

	var hall struct {
		Champions []struct {
			PlayerID string `json:"player_id"`
			Wins     int
		}
	}
	_, text := s.send(t, signing.Server, http.MethodGet, "/v1/leaderboards/"+board+"/hall-of-fame?cadence=daily&limit=1000", nil, nil)
	require.NoError(t, json.Unmarshal(text, &hall), "%s", text)
	champions := map[string]int{}
	for _, c := range hall.Champions {
		champions[c.PlayerID] = c.Wins
	}
	require.Equal(t, won, champions)
}

// medals claims what the season brought, twice each, and counts the medals.
func (s *system) medals(t *testing.T, order []oracle.Entry) {
	t.Helper()
	want := map[string]int64{}
	for i, e := range order {
		switch rank := i + 1; {
		case rank == 1:
			want[e.PlayerID] = 3
		case (rank-1)*100 < len(order)*5:
			want[e.PlayerID] = 1
		}
	}
	require.Equal(t, len(want), s.rows(t, "mail"))
	for player := range want {
		var box struct {
			Mails []struct {
				ID    string `json:"mail_id"`
				State string
			}
		}
		_, text := s.send(t, signing.Client, http.MethodGet, "/v1/players/"+player+"/mailbox", nil, nil)
		require.NoError(t, json.Unmarshal(text, &box), "%s", text)
		require.Len(t, box.Mails, 1, "%s", text)
		require.Equal(t, "waiting", box.Mails[0].State)
		claim := "/v1/players/" + player + "/mailbox/" + box.Mails[0].ID + "/claim"
		first, receipt := s.send(t, signing.Client, http.MethodPost, claim, nil, nil)
		require.Equal(t, http.StatusOK, first.StatusCode, "%s", receipt)
		_, again := s.send(t, signing.Client, http.MethodPost, claim, nil, nil)
		require.JSONEq(t, string(receipt), string(again))
	}
	got := map[string]int64{}
	for player, items := range s.items(t) {
		if n := items["medal"]; n > 0 {
			got[player] = n
		}
	}
	require.Equal(t, want, got)
}
