package progression

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
)

// sampleRows bounds the ledger rows that one sample adds up, unless a single player has more.
const sampleRows = 50_000

// Drift is a balance that is not the sum of the ledger. Item is empty for XP.
type Drift struct {
	PlayerID string
	Item     string
	Balance  int64
	Ledger   int64
}

// Sample is what a comparison of some players with their ledger found.
type Sample struct {
	Players []string // that were compared, in order
	Drifts  []Drift
	Next    string // where the next sample goes on; "": at the beginning
}

// Drift lists at most limit balances, of XP and of items, that differ from the sum of their ledger rows. There is none
// unless somebody wrote past the ledger. It reads all three tables.
func (l *Ledger) Drift(ctx context.Context, limit int) ([]Drift, error) {
	return l.compare(ctx, "", "", limit)
}

// Sample compares at most limit players, those that follow the id from, with the sum of their ledger rows: fewer where they
// have many rows, but always one if there is one. Samples that go on from each other's Next compare everybody. What is being
// written meanwhile is seen before or after, and is no drift.
func (l *Ledger) Sample(ctx context.Context, from string, limit int) (Sample, error) {
	var s Sample
	var rows int64
	all := true
	err := l.DB.Each(ctx, "SELECT player_id, entries FROM player WHERE player_id > ? ORDER BY player_id LIMIT ?", []any{from, limit},
		func(scan func(...any) error) error {
			var id string
			var entries int64
			if err := scan(&id, &entries); err != nil {
				return err
			}
			rows += entries
			if all = all && (rows <= sampleRows || len(s.Players) == 0); all {
				s.Players = append(s.Players, id)
			}
			return nil
		})
	if err != nil {
		return Sample{}, fmt.Errorf("choose players: %w", err)
	}
	if len(s.Players) == 0 {
		return Sample{}, nil
	}
	last := s.Players[len(s.Players)-1]
	if !all || len(s.Players) == limit {
		s.Next = last
	}
	s.Drifts, err = l.compare(ctx, from, last, limit)
	return s, err
}

// compare lists drifts of the players in (after, last], in one statement, which sees one moment of all three tables. With
// last empty it goes to the end.
func (l *Ledger) compare(ctx context.Context, after, last string, limit int) ([]Drift, error) {
	in, args := "WHERE player_id > ?", []any{after}
	if last != "" {
		in, args = in+" AND player_id <= ?", append(args, last)
	}
	query := `SELECT player_id, item_id, SUM(balance), SUM(total) FROM (
			SELECT player_id, item_id, 0 AS balance, SUM(delta) AS total FROM ledger ` + in + ` GROUP BY player_id, item_id
			UNION ALL SELECT player_id, '', xp, 0 FROM player ` + in + `
			UNION ALL SELECT player_id, item_id, quantity, 0 FROM item ` + in + `
		) AS sides GROUP BY player_id, item_id HAVING SUM(balance) <> SUM(total) ORDER BY player_id, item_id LIMIT ?`
	var drifts []Drift
	err := l.DB.Each(ctx, query, append(append(append(append([]any{}, args...), args...), args...), limit), func(scan func(...any) error) error {
		var d Drift
		err := scan(&d.PlayerID, &d.Item, &d.Balance, &d.Ledger)
		drifts = append(drifts, d)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("compare balances with the ledger: %w", err)
	}
	return drifts, nil
}

// Anywhere gives a random place among the ids of the players, from which samples may start: whoever always started at the
// beginning would never reach the end of many players, if it is restarted now and then.
func (l *Ledger) Anywhere(ctx context.Context) (string, error) {
	var first, last sql.NullString
	err := l.DB.Row(ctx, "SELECT MIN(player_id), MAX(player_id) FROM player", nil, &first, &last)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return "", fmt.Errorf("find the first and the last player: %w", err)
	}
	return between(first.String, last.String), nil
}

// alphabets are the characters ids are made of, in order; the first that has all of two ids' is the likeliest for those
// between them.
func alphabets() []string {
	return []string{
		"0123456789", "0123456789abcdef", "0123456789ABCDEF",
		"-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz",
		"-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~", // of aliases
	}
}

// betweenWidth is how many characters of an id are made up.
const betweenWidth = 8

// between makes up an id from first to last, as if ids were numbers with the same digits. What first and last begin with in
// common is kept. One id leaves no choice.
func between(first, last string) string {
	if first == last {
		return ""
	}
	common := 0
	for common < min(len(first), len(last)) && first[common] == last[common] {
		common++
	}
	prefix, low, high := first[:common], first[common:], last[common:]
	low, high = low[:min(len(low), betweenWidth)], high[:min(len(high), betweenWidth)]
	for _, digits := range alphabets() {
		if strings.Trim(low+high, digits) != "" {
			continue
		}
		var from, to uint64
		for i := range betweenWidth {
			from, to = from*uint64(len(digits)), to*uint64(len(digits))
			if i < len(low) {
				from += uint64(strings.IndexByte(digits, low[i]))
			}
			if i < len(high) {
				to += uint64(strings.IndexByte(digits, high[i]))
			}
		}
		number := from + rand.Uint64N(cmp.Or(to-min(from, to), 1))
		made := make([]byte, betweenWidth)
		for i := betweenWidth - 1; i >= 0; i-- {
			made[i] = digits[number%uint64(len(digits))]
			number /= uint64(len(digits))
		}
		return prefix + string(made)
	}
	return first
}
