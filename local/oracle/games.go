// Package oracle says what a recording of chess games must come to under examples/chess: XP, levels, items and every board,
// in the most naive way there is. It shares no code with the domains that it judges and imports nothing of core: it reads
// the games and the catalog's text alone.
package oracle

import (
	"cmp"
	"compress/gzip"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Game is one finished game. A player without a name was a guest, and Eco may be empty.
type Game struct {
	ID, White, Black string
	Winner           string // white, black or draw
	Eco              string // the opening
	Ended            int64  // ms
	Turns            int
	WhiteAfter       int // the rating
	BlackAfter       int
}

// Rows reads a gzipped CSV file with a header into a map a row.
func Rows(file io.Reader) ([]map[string]string, error) {
	unzipped, err := gzip.NewReader(file)
	if err != nil {
		return nil, err
	}
	records, err := csv.NewReader(unzipped).ReadAll()
	if err != nil {
		return nil, err
	}
	if len(records) == 0 {
		return nil, errors.New("the file is empty")
	}
	rows := make([]map[string]string, 0, len(records)-1)
	for _, record := range records[1:] {
		row := map[string]string{}
		for i, name := range records[0] {
			row[name] = record[i]
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// ReadGames reads a gzipped CSV file of recorded games, in order of their end.
func ReadGames(file io.Reader) ([]Game, error) {
	rows, err := Rows(file)
	if err != nil {
		return nil, err
	}
	var games []Game
	for n, row := range rows {
		number := func(name string) int {
			if row[name] == "" {
				return 0
			}
			value, bad := strconv.Atoi(row[name])
			if bad != nil {
				err = fmt.Errorf("game %d, %s: %w", n+1, name, bad)
			}
			return value
		}
		games = append(games, Game{
			ID: row["game_id"], White: row["white_id"], Black: row["black_id"], Winner: row["winner"], Eco: row["opening_eco"],
			Ended: int64(number("ended_at_ms")), Turns: number("turns"),
			WhiteAfter: number("white_rating") + number("white_rating_diff"),
			BlackAfter: number("black_rating") + number("black_rating_diff"),
		})
	}
	slices.SortFunc(games, func(a, b Game) int { return cmp.Or(cmp.Compare(a.Ended, b.Ended), cmp.Compare(a.ID, b.ID)) })
	return games, err
}

// Recorded finds a file of the optional folder of real games: in LIVEOPS_DATA, or else beside the repository as seen from the
// folder of a package in local.
func Recorded(name string) (path string, found bool) {
	dir := os.Getenv("LIVEOPS_DATA")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "data")
	}
	path = filepath.Join(dir, name)
	_, err := os.Stat(path) //nolint:gosec // whoever runs the tests names the folder
	return path, err == nil
}

// MakeUp makes up n games of some players, the same for the same arguments. The players meet often and times collide.
func MakeUp(n, players int) []Game {
	rng := rand.New(rand.NewPCG(7, 11))
	at := time.Date(2026, 11, 3, 9, 0, 0, 0, time.UTC).UnixMilli()
	games := make([]Game, n)
	for i := range games {
		white := rng.IntN(players)
		black := (white + 1 + rng.IntN(players-1)) % players
		if rng.IntN(5) > 0 {
			at += rng.Int64N(int64(2 * time.Hour / time.Millisecond))
		}
		games[i] = Game{
			ID: fmt.Sprintf("g%05d", i), White: fmt.Sprintf("p%02d", white), Black: fmt.Sprintf("p%02d", black),
			Winner: []string{"white", "black", "draw"}[rng.IntN(3)], Eco: fmt.Sprintf("%c%02d", 'A'+rng.IntN(5), rng.IntN(20)),
			Ended: at, Turns: 10 + rng.IntN(60), WhiteAfter: 1200 + rng.IntN(30), BlackAfter: 1200 + rng.IntN(30),
		}
	}
	return games
}

// EndAt moves games in time so that the last one ends at an instant, to the millisecond.
func EndAt(games []Game, end time.Time) {
	var last int64
	for _, g := range games {
		last = max(last, g.Ended)
	}
	for i := range games {
		games[i].Ended += end.UnixMilli() - last
	}
}

// Event is one event of a game, as a client sends it.
type Event struct {
	ID         string         `json:"event_id"`
	Type       string         `json:"type"`
	PlayerID   string         `json:"player_id"`
	OccurredAt string         `json:"occurred_at"`
	SessionID  string         `json:"session_id"`
	Data       map[string]any `json:"data"`
}

// Write writes events as NDJSON.
func Write(to io.Writer, events []Event) error {
	lines := json.NewEncoder(to)
	for _, e := range events {
		if err := lines.Encode(e); err != nil {
			return err
		}
	}
	return nil
}

// Key is what tells an event from all others.
func (e Event) Key() string { return e.PlayerID + "." + e.ID }

// at is when the event happened.
func (e Event) at() time.Time {
	at, _ := time.Parse(time.RFC3339Nano, e.OccurredAt) // Events and tests wrote it
	return at
}

// Timestamp is an instant as events carry it.
func Timestamp(at time.Time) string { return at.UTC().Format("2006-01-02T15:04:05.000Z") }

// Events turns games into the events that both sides send when a game ends.
func Events(games []Game) []Event {
	var out []Event
	for _, g := range games {
		for _, side := range []string{"white", "black"} {
			player, rating := g.White, g.WhiteAfter
			if side == "black" {
				player, rating = g.Black, g.BlackAfter
			}
			if player == "" {
				continue
			}
			add := func(kind, typ string, data map[string]any) {
				out = append(out, Event{
					ID: g.ID + "-" + side[:1] + "-" + kind, Type: typ, PlayerID: player, SessionID: g.ID, Data: data,
					OccurredAt: Timestamp(time.UnixMilli(g.Ended)),
				})
			}
			won, drew := g.Winner == side, g.Winner == "draw"
			xp, points := 10, 0
			if won {
				xp, points = 35, 2
			} else if drew {
				xp, points = 15, 1
			}
			add("x", "xp_gained", map[string]any{"amount": xp, "source": "match"})
			add("r", "score_submitted", map[string]any{"board": "rating", "score": rating})
			add("p", "score_submitted", map[string]any{"board": "points", "score": points})
			if won && g.Turns <= 20 {
				add("k", "boss_killed", map[string]any{"boss": "swift-mate"})
			}
			if won && g.Eco != "" {
				add("i", "item_acquired", map[string]any{"item": "eco-" + strings.ToLower(g.Eco), "quantity": 1})
			}
		}
	}
	return out
}
