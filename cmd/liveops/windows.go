package main

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
)

type windowsCommand struct {
	List    windowsList   `cmd:"" default:"withargs" help:"List windows: those that are not archived, or a board's latest."`
	Show    windowsShow   `cmd:"" help:"Print a window and what was done to it by hand."`
	Close   windowClose   `cmd:"" help:"End a window now; the one after it begins."`
	Extend  windowExtend  `cmd:"" help:"Let a window end later; the one after it begins later."`
	Rebuild windowRebuild `cmd:"" help:"Make a window's ranking in Redis anew from the database."`
}

// Help implements kong's longer help.
func (windowsCommand) Help() string {
	return `Whatever is ordered here is on record, with who ordered it and why.

Examples:
  liveops windows --board arena-score --secret-file DIR/dev-admin.secret
  liveops windows extend arena-score s2026q4 "the servers were down" --until 2027-01-03T00:00:00Z --secret-file DIR/dev-admin.secret`
}

// shownWindow is a window as the API tells it to operators.
type shownWindow struct {
	Board    string         `json:"board"`
	ID       string         `json:"id"`
	Cadence  string         `json:"cadence"`
	StartsAt string         `json:"starts_at"`
	EndsAt   string         `json:"ends_at"`
	State    string         `json:"state"`
	Actions  []windowAction `json:"actions"`
}

type windowAction struct {
	Board  string `json:"board"`
	Window string `json:"window"`
	Action string `json:"action"`
	At     string `json:"at"`
	Actor  string `json:"actor"`
	Reason string `json:"reason"`
	Ended  string `json:"ended"`
	Ends   string `json:"ends"`
	Next   string `json:"next"`
}

// change is what an action changed.
func (a windowAction) change() string {
	switch {
	case a.Ends == "":
		return ""
	case a.Next == "":
		return "ends " + a.Ends + " instead of " + a.Ended
	}
	return "ends " + a.Ends + " instead of " + a.Ended + ", where " + a.Next + " begins"
}

type windowsList struct {
	Board string `help:"Only this board's, the latest, in whatever state." placeholder:"NAME"`
	page
	address
	operator
}

// Validate implements kong's check of the flags.
func (c windowsList) Validate() error { return errors.Join(c.page.Validate(), c.address.Validate()) }

func (c windowsList) Run(ctx context.Context, t *terminal) error {
	me, err := c.signed(identity(c.operator))
	if err != nil {
		return err
	}
	query := present(map[string]string{"board": c.Board, "limit": strconv.Itoa(c.Limit)})
	var answer struct {
		Windows []shownWindow `json:"windows"`
	}
	if err := me.do(ctx, http.MethodGet, "/v1/operations/windows?"+query.Encode(), nil, &answer); err != nil {
		return err
	}
	t.out.table(0, func(row func(string, ...any)) {
		for _, one := range answer.Windows {
			row("%s\t%s\t%s\t%s\t%s", one.Board, one.ID, one.State, one.StartsAt, one.EndsAt)
		}
	})
	return nil
}

// named is the arguments that name a window.
type named struct {
	Board  string `arg:"" help:"The board."`
	Window string `arg:"" help:"The window's id, such as 2026-W48."`
}

func (n named) path() string {
	return "/v1/operations/windows/" + url.PathEscape(n.Board) + "/" + url.PathEscape(n.Window)
}

type windowsShow struct {
	named
	address
	operator
}

func (c windowsShow) Run(ctx context.Context, t *terminal) error {
	me, err := c.signed(identity(c.operator))
	if err != nil {
		return err
	}
	var one shownWindow
	if err := me.do(ctx, http.MethodGet, c.path(), nil, &one); err != nil {
		return err
	}
	t.out.printf("%s %s  %s  %s to %s\n", one.Board, one.ID, one.State, one.StartsAt, one.EndsAt)
	t.out.table(0, func(row func(string, ...any)) {
		for _, a := range one.Actions {
			row("%s\t%s\t%s\t%s\t%s", a.At, a.Actor, a.Action, a.change(), a.Reason)
		}
	})
	return nil
}

// windowOrder is the arguments of commands that change a window.
type windowOrder struct {
	named
	Reason string `arg:"" help:"Why."`
	order
}

func (o windowOrder) do(ctx context.Context, t *terminal, action string, members map[string]string) error {
	members["reason"] = o.Reason
	var done windowAction
	if err := o.send(ctx, o.path()+"/"+action, members, &done); err != nil {
		return err
	}
	t.out.table(0, func(row func(string, ...any)) {
		row("%s\t%s\t%s\t%s\t%s", done.Board, done.Window, done.At, done.Action, done.change())
	})
	return nil
}

type (
	windowClose   struct{ windowOrder }
	windowRebuild struct{ windowOrder }
)

func (c windowClose) Run(ctx context.Context, t *terminal) error {
	return c.do(ctx, t, "close", map[string]string{})
}

func (c windowRebuild) Run(ctx context.Context, t *terminal) error {
	return c.do(ctx, t, "rebuild", map[string]string{})
}

type windowExtend struct {
	windowOrder
	Until string `help:"When it ends, as 2026-12-01T00:00:00Z." placeholder:"TIME" required:""`
}

func (c windowExtend) Run(ctx context.Context, t *terminal) error {
	return c.do(ctx, t, "extend", map[string]string{"until": c.Until})
}
