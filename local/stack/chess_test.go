package stack_test

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/require"

	"liveops/local/replay"
)

// game is one row of the recorded games.
type game struct {
	id, white, black, winner, eco string
	ended                         int64
	turns, whiteAfter, blackAfter int
}

// dataFile finds a file of the optional folder of real games beside the repository.
func dataFile(name string) (string, bool) {
	dir := os.Getenv("LIVEOPS_DATA")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "data")
	}
	path := filepath.Join(dir, name)
	_, err := os.Stat(path)
	return path, err == nil
}

func readCSV(t *testing.T, path string) []map[string]string {
	t.Helper()
	file, err := os.Open(path)
	require.NoError(t, err)
	defer file.Close()
	unzipped, err := gzip.NewReader(file)
	require.NoError(t, err)
	records, err := csv.NewReader(unzipped).ReadAll()
	require.NoError(t, err)
	rows := make([]map[string]string, 0, len(records)-1)
	for _, record := range records[1:] {
		row := map[string]string{}
		for i, name := range records[0] {
			row[name] = record[i]
		}
		rows = append(rows, row)
	}
	return rows
}

func number(t *testing.T, text string) int {
	t.Helper()
	if text == "" {
		return 0
	}
	n, err := strconv.Atoi(text)
	require.NoError(t, err)
	return n
}

// realGames reads a recorded month.
func realGames(t *testing.T, path string) []game {
	t.Helper()
	var games []game
	for _, row := range readCSV(t, path) {
		games = append(games, game{
			id: row["game_id"], white: row["white_id"], black: row["black_id"], winner: row["winner"], eco: row["opening_eco"],
			ended: int64(number(t, row["ended_at_ms"])), turns: number(t, row["turns"]),
			whiteAfter: number(t, row["white_rating"]) + number(t, row["white_rating_diff"]),
			blackAfter: number(t, row["black_rating"]) + number(t, row["black_rating_diff"]),
		})
	}
	slices.SortFunc(games, func(a, b game) int { return cmp.Or(cmp.Compare(a.ended, b.ended), cmp.Compare(a.id, b.id)) })
	return games
}

// madeUpGames is a small month of games by a seeded generator, with players who meet often and times that collide.
func madeUpGames(n int) []game {
	rng := rand.New(rand.NewPCG(7, 11))
	at := time.Date(2026, 11, 3, 9, 0, 0, 0, time.UTC).UnixMilli()
	games := make([]game, n)
	for i := range games {
		white := rng.IntN(40)
		black := (white + 1 + rng.IntN(39)) % 40
		if rng.IntN(5) > 0 {
			at += rng.Int64N(int64(2 * time.Hour / time.Millisecond))
		}
		games[i] = game{
			id: fmt.Sprintf("g%05d", i), white: fmt.Sprintf("p%02d", white), black: fmt.Sprintf("p%02d", black),
			winner: []string{"white", "black", "draw"}[rng.IntN(3)], eco: fmt.Sprintf("%c%02d", 'A'+rng.IntN(5), rng.IntN(20)),
			ended: at, turns: 10 + rng.IntN(60), whiteAfter: 1200 + rng.IntN(30), blackAfter: 1200 + rng.IntN(30),
		}
	}
	return games
}

// played is one event of a game, as the client sends it.
type played struct {
	EventID    string         `json:"event_id"`
	Type       string         `json:"type"`
	PlayerID   string         `json:"player_id"`
	OccurredAt string         `json:"occurred_at"`
	SessionID  string         `json:"session_id"`
	Data       map[string]any `json:"data"`
	at         int64
}

// events turns games into the events both sides send when a game ends.
func events(games []game) []played {
	var out []played
	for _, g := range games {
		for _, side := range []string{"white", "black"} {
			player, rating := g.white, g.whiteAfter
			if side == "black" {
				player, rating = g.black, g.blackAfter
			}
			if player == "" {
				continue
			}
			add := func(kind, typ string, data map[string]any) {
				out = append(out, played{
					EventID: g.id + "-" + side[:1] + "-" + kind, Type: typ, PlayerID: player, SessionID: g.id, Data: data, at: g.ended,
					OccurredAt: time.UnixMilli(g.ended).UTC().Format("2006-01-02T15:04:05.000Z"),
				})
			}
			won, drew := g.winner == side, g.winner == "draw"
			xp, points := 10, 0
			if won {
				xp, points = 35, 2
			} else if drew {
				xp, points = 15, 1
			}
			add("x", "xp_gained", map[string]any{"amount": xp, "source": "match"})
			add("r", "score_submitted", map[string]any{"board": "rating", "score": rating})
			add("p", "score_submitted", map[string]any{"board": "points", "score": points})
			if won && g.turns <= 20 {
				add("k", "boss_killed", map[string]any{"boss": "swift-mate"})
			}
			if won && g.eco != "" {
				add("i", "item_acquired", map[string]any{"item": "eco-" + strings.ToLower(g.eco), "quantity": 1})
			}
		}
	}
	return out
}

func ndjson(t *testing.T, events []played) io.Reader {
	t.Helper()
	var buffer bytes.Buffer
	for _, e := range events {
		require.NoError(t, json.NewEncoder(&buffer).Encode(e))
	}
	return &buffer
}

// naive is what the month must come to, computed from the games and the catalog's text alone.
type naive struct {
	xp     map[string]int64
	items  map[string]map[string]int64
	boards map[string]map[string]naiveEntry // "board window" → player
}

type naiveEntry struct {
	score, at int64
	event     string
}

// chessCatalog is as much of the example catalog as the naive computation looks at.
type chessCatalog struct {
	XP struct {
		Table    []int64
		Generate *struct{ Levels, First, Percent int64 }
	}
	Bosses map[string]struct {
		XP    int64
		Items map[string]int64
	}
	Rewards struct {
		Levels map[int]struct{ Items map[string]int64 }
	}
	Boards map[string]struct{ Windows []string }
}

func readChessCatalog(t *testing.T) chessCatalog {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "examples", "chess", "catalog.yaml"))
	require.NoError(t, err)
	var c chessCatalog
	require.NoError(t, yaml.Unmarshal(text, &c))
	return c
}

func (c chessCatalog) level(xp int64) int {
	reach, step, level := int64(0), int64(0), 1
	if g := c.XP.Generate; g != nil {
		step = g.First
		for l := int64(2); l <= g.Levels; l++ {
			if reach += step; xp < reach {
				return level
			}
			level++
			step = max(step*g.Percent/100, 1)
		}
		return level
	}
	for i, need := range c.XP.Table {
		if xp >= need {
			level = i + 1
		}
	}
	return level
}

// compute plays the events in their own order. Days and weeks hold only what happened in the current one: the system did not
// exist before. The season is the year, in which all of it happened. shift is how far the recording was moved, in ms.
func compute(c chessCatalog, events []played, shift int64, now time.Time) naive {
	n := naive{map[string]int64{}, map[string]map[string]int64{}, map[string]map[string]naiveEntry{}}
	give := func(player, item string, quantity int64) {
		if n.items[player] == nil {
			n.items[player] = map[string]int64{}
		}
		n.items[player][item] += quantity
	}
	year, week := now.ISOWeek()
	for _, e := range events {
		at := e.at + shift
		moment := time.UnixMilli(at).UTC()
		n.xp[e.PlayerID] += 0
		switch e.Type {
		case "xp_gained":
			n.xp[e.PlayerID] += int64(e.Data["amount"].(int))
		case "boss_killed":
			boss := c.Bosses[e.Data["boss"].(string)]
			n.xp[e.PlayerID] += boss.XP
			for item, quantity := range boss.Items {
				give(e.PlayerID, item, quantity)
			}
		case "item_acquired":
			give(e.PlayerID, e.Data["item"].(string), 1)
		case "score_submitted":
			boards := []string{e.Data["board"].(string)}
			if boards[0] == "rating" {
				boards = append(boards, "rating-best")
			}
			for _, board := range boards {
				for _, cadence := range c.Boards[board].Windows {
					y, w := moment.ISOWeek()
					if cadence == "daily" && moment.Format(time.DateOnly) != now.Format(time.DateOnly) ||
						cadence == "weekly" && (y != year || w != week) {
						continue
					}
					key := board + " " + cadence
					if n.boards[key] == nil {
						n.boards[key] = map[string]naiveEntry{}
					}
					old, known := n.boards[key][e.PlayerID]
					n.boards[key][e.PlayerID] = merge(board, old, known, naiveEntry{int64(e.Data["score"].(int)), at, e.EventID})
				}
			}
		}
	}
	for player, xp := range n.xp {
		for level, reward := range c.Rewards.Levels {
			for item, quantity := range reward.Items {
				if level <= c.level(xp) {
					give(player, item, quantity)
				}
			}
		}
	}
	return n
}

func merge(board string, old naiveEntry, known bool, next naiveEntry) naiveEntry {
	switch {
	case !known:
		return next
	case board == "points":
		return naiveEntry{old.score + next.score, max(old.at, next.at), ""}
	case board == "rating":
		if next.at > old.at || next.at == old.at && next.event > old.event {
			return next
		}
	case next.score > old.score || next.score == old.score && next.at < old.at:
		return next
	}
	return old
}

// order is a board's full ranking: score, who got there first, player.
func (n naive) order(key string) []rankedEntry {
	var rows []rankedEntry
	for player, e := range n.boards[key] {
		rows = append(rows, rankedEntry{PlayerID: player, Score: e.score, AchievedAt: time.UnixMilli(e.at).UTC()})
	}
	return inOrder(rows)
}

// inOrder sorts rows of a descending board and numbers them.
func inOrder(rows []rankedEntry) []rankedEntry {
	sort.Slice(rows, func(i, j int) bool {
		a, b := rows[i], rows[j]
		if a.Score != b.Score {
			return a.Score > b.Score
		}
		if !a.AchievedAt.Equal(b.AchievedAt) {
			return a.AchievedAt.Before(b.AchievedAt)
		}
		return a.PlayerID < b.PlayerID
	})
	for i := range rows {
		rows[i].Rank, rows[i].TiedRank = int64(i+1), int64(i+1)
		if i > 0 && rows[i].Score == rows[i-1].Score {
			rows[i].TiedRank = rows[i-1].TiedRank
		}
	}
	return rows
}

func TestChessMonth(t *testing.T) {
	t.Parallel()
	t.Run("sample", func(t *testing.T) {
		t.Parallel()
		eachBackend(t, func(t *testing.T, b backend) { chessMonth(t, b, madeUpGames(400)) })
	})
	t.Run("real", func(t *testing.T) {
		t.Parallel()
		path, found := dataFile("lichess_rapid_2022_11.csv.gz")
		if !found {
			t.Skip("the recorded games do not lie beside the repository (LIVEOPS_DATA)")
		}
		chessMonth(t, realBackend(t), realGames(t, path))
	})
}

func chessMonth(t *testing.T, b backend, games []game) {
	now := time.Date(2026, 11, 20, 20, 0, 0, 0, time.UTC)
	s := start(t, b, "chess", now)
	sent := events(games)

	recording, err := replay.Read(ndjson(t, sent))
	require.NoError(t, err)
	replay.Restamp(recording, now)
	shift := now.UnixMilli() - games[len(games)-1].ended
	player := s.player()
	report, err := player.Play(t.Context(), recording)
	require.NoError(t, err)
	require.Empty(t, report.Rejected)
	require.Equal(t, len(sent), report.Accepted)
	require.Zero(t, report.Duplicate)
	s.quiet(t)

	catalog := readChessCatalog(t)
	want := compute(catalog, sent, shift, now)
	check := func() {
		t.Helper()
		levels := map[string]int{}
		for p, xp := range want.xp {
			levels[p] = catalog.level(xp)
		}
		xp, level := s.balances(t)
		require.Equal(t, want.xp, xp)
		require.Equal(t, levels, level)
		require.Equal(t, want.items, s.items(t))
		for board, b := range catalog.Boards {
			for _, cadence := range b.Windows {
				require.Equal(t, want.order(board+" "+cadence), s.pages(t, board, cadence, 1000), "%s %s", board, cadence)
			}
		}
	}
	check()

	again, err := player.Play(t.Context(), recording)
	require.NoError(t, err)
	require.Equal(t, len(sent), again.Duplicate, "%+v", again)
	require.Zero(t, again.Accepted)
	s.quiet(t)
	check()

	for _, p := range slices.Sorted(maps.Keys(want.xp))[:20] {
		answer := s.get(t, "/v1/players/"+p, 200)
		require.EqualValues(t, want.xp[p], answer["xp"])
	}
}

// TestRealStandings submits final standings in random order and reads them back through dense ties.
func TestRealStandings(t *testing.T) {
	t.Parallel()
	names := []string{"daily_2022_06_18", "daily_2022_06_19", "weekly_2022_06_16", "u1700_2022_06_20", "marathon_2022_04_16"}
	for _, name := range names {
		path, found := dataFile("standings_" + name + ".csv.gz")
		if !found {
			t.Skip("the recorded standings do not lie beside the repository (LIVEOPS_DATA)")
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var rows []rankedEntry
			for _, row := range readCSV(t, path) {
				rows = append(rows, rankedEntry{PlayerID: row["player_id"], Score: int64(number(t, row["score"]))})
			}
			standings(t, realBackend(t), rows)
		})
	}
}

// TestMadeUpStandings is the same on a small board that lies in the repository.
func TestMadeUpStandings(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, b backend) {
		rows := make([]rankedEntry, 700)
		for i := range rows {
			rows[i] = rankedEntry{PlayerID: fmt.Sprintf("p%04d", i), Score: int64(i % 9)}
		}
		standings(t, b, rows)
	})
}

func standings(t *testing.T, b backend, rows []rankedEntry) {
	now := time.Date(2026, 11, 20, 20, 0, 0, 0, time.UTC)
	s := start(t, b, "standings", now)
	rng := rand.New(rand.NewPCG(1, uint64(len(rows))))
	rng.Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
	var sent []played
	for i := range rows {
		// Few distinct times: who got there first decides many ties, the player's id the rest.
		rows[i].AchievedAt = now.Add(-time.Duration(rng.IntN(2000)) * time.Millisecond)
		sent = append(sent, played{
			EventID: "final-" + strconv.Itoa(i), Type: "score_submitted", PlayerID: rows[i].PlayerID, SessionID: "final",
			OccurredAt: rows[i].AchievedAt.Format("2006-01-02T15:04:05.000Z"),
			Data:       map[string]any{"board": "final", "score": rows[i].Score},
		})
	}
	recording, err := replay.Read(ndjson(t, sent))
	require.NoError(t, err)
	report, err := s.player().Play(t.Context(), recording)
	require.NoError(t, err)
	require.Equal(t, len(rows), report.Accepted)
	s.quiet(t)

	want := inOrder(rows)
	for _, size := range []int{1000, 37} {
		require.Equal(t, want, s.pages(t, "final", "all_time", size), "pages of %d", size)
	}
	for _, i := range []int{0, 1, 3, len(want) / 2, len(want) - 2, len(want) - 1} {
		first := min(max(0, i-5), max(0, len(want)-11))
		around := s.entries(t, fmt.Sprintf("/v1/leaderboards/final/players/%s/around?window=all_time&limit=11", want[i].PlayerID))
		require.Equal(t, want[first:min(first+11, len(want))], around)
	}
}
