package stack_test

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"liveops/local/oracle"
	"liveops/local/replay"
)

// opened opens a file of that folder and has it read.
func opened[T any](t *testing.T, path string, read func(io.Reader) (T, error)) T {
	t.Helper()
	file, err := os.Open(path)
	require.NoError(t, err)
	defer file.Close()
	value, err := read(file)
	require.NoError(t, err)
	return value
}

func ndjson(t *testing.T, events []oracle.Event) io.Reader {
	t.Helper()
	var buffer bytes.Buffer
	require.NoError(t, oracle.Write(&buffer, events))
	return &buffer
}

// TestChessMonth plays games twice, and compares everything with what they must come to. TestNovember plays real ones.
func TestChessMonth(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, b backend) { chessMonth(t, b, oracle.MakeUp(400, 40)) })
}

func chessMonth(t *testing.T, b backend, games []oracle.Game) {
	now := time.Date(2026, 11, 20, 20, 0, 0, 0, time.UTC)
	s := start(t, b, "chess", now)
	oracle.EndAt(games, now)
	sent := oracle.Events(games)

	recording, err := replay.Read(ndjson(t, sent))
	require.NoError(t, err)
	player := s.player()
	report, err := player.Play(t.Context(), recording)
	require.NoError(t, err)
	require.Empty(t, report.Rejected)
	require.Equal(t, len(sent), report.Accepted)
	require.Zero(t, report.Duplicate)
	s.quiet(t)

	catalog, err := oracle.ReadCatalog(filepath.Join("..", "..", "examples", "chess", "catalog.yaml"))
	require.NoError(t, err)
	want := catalog.Compute(sent, now)
	check := func() {
		t.Helper()
		levels := map[string]int{}
		for p, xp := range want.XP {
			levels[p] = catalog.Level(xp)
		}
		xp, level := s.balances(t)
		require.Equal(t, want.XP, xp)
		require.Equal(t, levels, level)
		require.Equal(t, want.Items, s.items(t))
		for board, b := range catalog.Boards {
			for _, cadence := range b.Windows {
				require.Equal(t, want.Order(board, cadence), s.pages(t, board, cadence, 1000), "%s %s", board, cadence)
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

	for _, p := range slices.Sorted(maps.Keys(want.XP))[:20] {
		answer := s.get(t, "/v1/players/"+p, 200)
		require.EqualValues(t, want.XP[p], answer["xp"])
	}
}

// TestRealStandings submits final standings in random order and reads them back through dense ties.
func TestRealStandings(t *testing.T) {
	t.Parallel()
	names := []string{"daily_2022_06_18", "daily_2022_06_19", "weekly_2022_06_16", "u1700_2022_06_20", "marathon_2022_04_16"}
	for _, name := range names {
		path, found := oracle.Recorded("standings_" + name + ".csv.gz")
		if !found {
			t.Skip("the recorded standings do not lie beside the repository (LIVEOPS_DATA)")
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var rows []oracle.Entry
			for _, row := range opened(t, path, oracle.Rows) {
				score, err := strconv.ParseInt(row["score"], 10, 64)
				require.NoError(t, err)
				rows = append(rows, oracle.Entry{PlayerID: row["player_id"], Score: score})
			}
			standings(t, realBackend(t), rows)
		})
	}
}

// TestMadeUpStandings is the same on a small board that lies in the repository.
func TestMadeUpStandings(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, b backend) {
		rows := make([]oracle.Entry, 700)
		for i := range rows {
			rows[i] = oracle.Entry{PlayerID: fmt.Sprintf("p%04d", i), Score: int64(i % 9)}
		}
		standings(t, b, rows)
	})
}

func standings(t *testing.T, b backend, rows []oracle.Entry) {
	now := time.Date(2026, 11, 20, 20, 0, 0, 0, time.UTC)
	s := start(t, b, "standings", now)
	rng := rand.New(rand.NewPCG(1, uint64(len(rows))))
	rng.Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
	var sent []oracle.Event
	for i := range rows {
		// Few distinct times: who got there first decides many ties, the player's id the rest.
		rows[i].AchievedAt = now.Add(-time.Duration(rng.IntN(2000)) * time.Millisecond)
		sent = append(sent, oracle.Event{
			ID: "final-" + strconv.Itoa(i), Type: "score_submitted", PlayerID: rows[i].PlayerID, SessionID: "final",
			OccurredAt: oracle.Timestamp(rows[i].AchievedAt),
			Data:       map[string]any{"board": "final", "score": rows[i].Score},
		})
	}
	recording, err := replay.Read(ndjson(t, sent))
	require.NoError(t, err)
	report, err := s.player().Play(t.Context(), recording)
	require.NoError(t, err)
	require.Equal(t, len(rows), report.Accepted)
	s.quiet(t)

	want := oracle.InOrder(rows)
	for _, size := range []int{1000, 37} {
		require.Equal(t, want, s.pages(t, "final", "all_time", size), "pages of %d", size)
	}
	for _, i := range []int{0, 1, 3, len(want) / 2, len(want) - 2, len(want) - 1} {
		first := min(max(0, i-5), max(0, len(want)-11))
		around := s.entries(t, fmt.Sprintf("/v1/leaderboards/final/players/%s/around?window=all_time&limit=11", want[i].PlayerID))
		require.Equal(t, want[first:min(first+11, len(want))], around)
	}
}
