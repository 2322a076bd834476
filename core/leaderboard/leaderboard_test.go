package leaderboard

import (
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"liveops/core/catalog"
	"liveops/core/event"
	"liveops/core/fault"
)

func at(ms int64) time.Time { return time.UnixMilli(ms).UTC() }

func TestMerge(t *testing.T) {
	t.Parallel()
	score := func(score, ms, seq int64, id string) Score {
		return Score{Board: "b", Window: "w", Player: "p", Score: score, At: at(ms), Seq: seq, EventID: id, Fresh: true}
	}
	row := func(score, ms, seq int64, id string, version int64) Row {
		return Row{Board: "b", Window: "w", Player: "p", Score: score, Total: score, AchievedAt: at(ms), Seq: seq, EventID: id, Version: version}
	}
	huge := int64(event.MaxInteger)
	bounded := row(huge, 2, 0, "b", 2)
	bounded.Total = 2 * huge
	for name, c := range map[string]struct {
		board  catalog.Board
		scores []Score
		want   Row
	}{
		"first":                     {catalog.Board{}, []Score{score(5, 1, 7, "a")}, row(5, 1, 7, "a", 1)},
		"best, better":              {catalog.Board{}, []Score{score(5, 1, 0, "a"), score(6, 2, 0, "b")}, row(6, 2, 0, "b", 2)},
		"best, worse":               {catalog.Board{}, []Score{score(5, 2, 0, "a"), score(4, 1, 0, "b")}, row(5, 2, 0, "a", 1)},
		"best, same but earlier":    {catalog.Board{}, []Score{score(5, 2, 0, "a"), score(5, 1, 0, "b")}, row(5, 1, 0, "b", 2)},
		"best, same but later":      {catalog.Board{}, []Score{score(5, 1, 0, "a"), score(5, 2, 0, "b")}, row(5, 1, 0, "a", 1)},
		"best, same, smaller id":    {catalog.Board{}, []Score{score(5, 1, 9, "b"), score(5, 1, 0, "a")}, row(5, 1, 0, "a", 2)},
		"best asc, less is better":  {catalog.Board{Order: "asc"}, []Score{score(5, 1, 0, "a"), score(-4, 2, 0, "b")}, row(-4, 2, 0, "b", 2)},
		"best asc, more is not":     {catalog.Board{Order: "asc"}, []Score{score(5, 2, 0, "a"), score(6, 1, 0, "b")}, row(5, 2, 0, "a", 1)},
		"latest, later":             {catalog.Board{Operator: "latest"}, []Score{score(5, 1, 0, "a"), score(4, 2, 0, "b")}, row(4, 2, 0, "b", 2)},
		"latest, earlier":           {catalog.Board{Operator: "latest"}, []Score{score(5, 2, 0, "a"), score(9, 1, 0, "b")}, row(5, 2, 0, "a", 1)},
		"latest, higher seq":        {catalog.Board{Operator: "latest"}, []Score{score(5, 2, 1, "b"), score(4, 2, 2, "a")}, row(4, 2, 2, "a", 2)},
		"latest, greater id":        {catalog.Board{Operator: "latest"}, []Score{score(5, 2, 1, "b"), score(4, 2, 1, "a")}, row(5, 2, 1, "b", 1)},
		"sum":                       {catalog.Board{Operator: "sum"}, []Score{score(5, 1, 0, "a"), score(-7, 3, 4, "b")}, row(-2, 3, 4, "b", 2)},
		"sum, reached at its last":  {catalog.Board{Operator: "sum"}, []Score{score(5, 3, 1, "a"), score(4, 1, 2, "b")}, row(9, 3, 1, "a", 2)},
		"sum, does not pass 2^53-1": {catalog.Board{Operator: "sum"}, []Score{score(huge, 1, 0, "a"), score(huge, 2, 0, "b")}, bounded},
		"sum, comes back exactly": {
			catalog.Board{Operator: "sum"},
			[]Score{score(-huge, 1, 0, "a"), score(-huge, 2, 0, "b"), score(huge, 3, 0, "c")},
			row(-huge, 3, 0, "c", 3),
		},
		"below a millisecond": {
			catalog.Board{Operator: "latest"},
			[]Score{{Board: "b", Window: "w", Player: "p", Score: 1, At: at(5).Add(999 * time.Microsecond), EventID: "a"}},
			row(1, 5, 0, "a", 1),
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got Row
			for _, s := range c.scores {
				got = got.Merge(c.board, s)
			}
			require.Equal(t, c.want, got)
		})
	}
}

// boards has one of every kind.
var boards = map[string]catalog.Board{
	"best":       {Operator: "best", Order: "desc"},
	"best-asc":   {Operator: "best", Order: "asc"},
	"latest":     {Operator: "latest", Order: "desc"},
	"latest-asc": {Operator: "latest", Order: "asc"},
	"sum":        {Operator: "sum", Order: "desc"},
	"sum-asc":    {Operator: "sum", Order: "asc"},

	"kept":          {Operator: "best", Order: "desc", Entry: []string{"hero"}},
	"hundred":       {Operator: "latest", Order: "desc", Size: 100},
	"few":           {Operator: "latest", Order: "desc", Size: 4},
	"few-asc":       {Operator: "best", Order: "asc", Size: 1},
	"few-kept":      {Operator: "sum", Order: "desc", Size: 2, Entry: []string{"hero"}},
	"few-of-latest": {Operator: "latest", Order: "asc", Size: 9, Entry: []string{"hero"}},
}

func findBoard(name string) (catalog.Board, bool) {
	b, ok := boards[name]
	return b, ok
}

// naive computes a player's row from everything he scored, without merging. Its version is not.
func naive(board string, scores []Score) Row {
	b := boards[board]
	byTime := slices.SortedFunc(slices.Values(scores), func(a, b Score) int {
		switch {
		case !a.At.Equal(b.At):
			return a.At.Compare(b.At)
		case a.Seq != b.Seq:
			return int(a.Seq - b.Seq)
		case a.EventID < b.EventID:
			return -1
		}
		return 1
	})
	pick := byTime[len(byTime)-1]
	value, total := pick.Score, pick.Score
	switch b.Operator {
	case "sum":
		sum := new(big.Int)
		for _, s := range scores {
			sum.Add(sum, big.NewInt(s.Score))
		}
		total = sum.Int64()
		value = max(-event.MaxInteger, min(total, event.MaxInteger))
	case "best":
		pick = scores[0]
		for _, s := range scores[1:] {
			more := s.Score > pick.Score
			if b.Order == "asc" {
				more = s.Score < pick.Score
			}
			if more || s.Score == pick.Score && (s.At.Before(pick.At) || s.At.Equal(pick.At) && s.EventID < pick.EventID) {
				pick = s
			}
		}
		value, total = pick.Score, pick.Score
	}
	return Row{Board: pick.Board, Window: pick.Window, Player: pick.Player, Score: value, Total: total, AchievedAt: pick.At, Seq: pick.Seq, EventID: pick.EventID, Metadata: pick.Metadata}
}

// hero is the metadata of an event.
func hero(id string) string { return `{"hero":"` + id + `::\n"}` }

// values has few distinct ones, so that ties are dense, and the extremes.
var values = []int64{0, 1, -1, 2, 100, event.MaxInteger, event.MaxInteger - 1, -event.MaxInteger}

func TestMergeDoesNotDependOnOrder(t *testing.T) {
	t.Parallel()
	for name, board := range boards {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(t *rapid.T) {
				ids := rapid.SliceOfNDistinct(rapid.StringMatching(`[a-c]{1,4}`), 1, 12, rapid.ID).Draw(t, "ids")
				scores := make([]Score, len(ids))
				for i, id := range ids {
					scores[i] = Score{
						Board: name, Window: "w", Player: "p", EventID: id,
						Score: rapid.SampledFrom(values).Draw(t, "score"),
						At:    at(rapid.Int64Range(0, 3).Draw(t, "at")),
						Seq:   rapid.Int64Range(0, 2).Draw(t, "seq"),

						Metadata: hero(id),
					}
				}
				want := naive(name, scores)
				var got Row
				for _, s := range rapid.Permutation(scores).Draw(t, "order") {
					next := got.Merge(board, s)
					if next.Version == got.Version {
						require.Equal(t, got, next)
					} else {
						require.Equal(t, got.Version+1, next.Version)
					}
					got = next
				}
				got.Version = 0
				require.Equal(t, want, got)
			})
		})
	}
}

func TestScoreCheck(t *testing.T) {
	t.Parallel()
	good := Score{Score: event.MaxInteger, At: at(0), Metadata: strings.Repeat("ü", MaxMetadata)}
	require.NoError(t, good.check())
	for name, bad := range map[string]Score{
		"above":       {Score: event.MaxInteger + 1, At: at(0)},
		"below":       {Score: -event.MaxInteger - 1, At: at(0)},
		"before 1970": {At: at(-1)},
		"no time":     {},
		"too late":    {At: at(latestAt + 1)},
		"too much":    {At: at(0), Metadata: strings.Repeat("ü", MaxMetadata+1)},
	} {
		require.ErrorIs(t, bad.check(), fault.ImpossibleValue, name)
	}
}
