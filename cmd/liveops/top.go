package main

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"text/tabwriter"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

type topCommand struct {
	Board  string `arg:"" help:"Name of the board."`
	Window string `help:"A cadence (daily, weekly, season, all_time: the current one) or a window's id; the board's first cadence when not given." placeholder:"WINDOW"`
	Limit  int    `help:"How many, 1 to 100, with a server's key to 1000." default:"10"`
	JSON   bool   `help:"Print the answer as it came."`
	address
	optionalIdentity
}

// Help implements kong's longer help.
func (topCommand) Help() string {
	return `Public boards can be read without a key. A window that is archived gives its final standings.

Examples:
  liveops top arena-score
  liveops top arena-score --window 2026-W47 --json
  liveops top trophies --limit 500 --secret-file DIR/dev-server.secret`
}

// Validate implements kong's check of the flags.
func (c topCommand) Validate() error {
	if c.Limit < 1 || c.Limit > 1000 {
		return errors.New("--limit must be 1 to 1000")
	}
	return c.address.Validate()
}

func (c topCommand) Run(ctx context.Context, t *terminal) error {
	me, err := c.maybeSigned(c.optionalIdentity)
	if err != nil {
		return err
	}
	text, err := me.top(ctx, c.Board, c.Window, c.Limit)
	if err != nil {
		return err
	}
	if c.JSON {
		t.out.printf("%s\n", text)
		return nil
	}
	return printRanking(t.out, text)
}

// top asks for the top of a board.
func (c client) top(ctx context.Context, board, window string, limit int) (jsontext.Value, error) {
	query := url.Values{"limit": {strconv.Itoa(limit)}}
	if window != "" {
		query.Set("window", window)
	}
	var text jsontext.Value
	err := c.do(ctx, http.MethodGet, "/v1/leaderboards/"+url.PathEscape(board)+"?"+query.Encode(), nil, &text)
	return text, err
}

func printRanking(to *printer, text jsontext.Value) error {
	var r struct {
		Board  string `json:"board"`
		Count  int64  `json:"count"`
		Window struct {
			ID    string `json:"id"`
			State string `json:"state"`
		} `json:"window"`
		Entries []struct {
			Rank       int64  `json:"rank"`
			PlayerID   string `json:"player_id"`
			Score      int64  `json:"score"`
			AchievedAt string `json:"achieved_at"`
		} `json:"entries"`
	}
	if err := json.Unmarshal(text, &r); err != nil {
		return err
	}
	to.printf("%s, %s (%s), %d ranked\n", r.Board, r.Window.ID, r.Window.State, r.Count)
	to.table(tabwriter.AlignRight, func(row func(string, ...any)) {
		for _, e := range r.Entries {
			row("%d\t%s\t%d\t%s\t", e.Rank, e.PlayerID, e.Score, e.AchievedAt)
		}
	})
	return nil
}
