package main

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
)

type playersCommand struct {
	Ledger  playersLedger  `cmd:"" help:"Print what changed a player's XP and items, newest first."`
	Reverse playersReverse `cmd:"" help:"Take back what an event did to a player."`
	Export  playersExport  `cmd:"" help:"Write everything that is held on a player, as NDJSON."`
	Erase   playersErase   `cmd:"" help:"Have a player forgotten when the grace is over."`
	Cancel  playersCancel  `cmd:"" help:"Take that back while it waits."`
	Erasure playersErasure `cmd:"" help:"Print how far a player's erasure is."`
}

// Help implements kong's longer help.
func (playersCommand) Help() string {
	return `The last line of an export counts the others by kind: without it the file was cut.

Examples:
  liveops players ledger ann --limit 50 --secret-file DIR/dev-server.secret
  liveops players reverse ann 01a202d6-572e-7218-93e0-ef1388aec85b "granted twice" --secret-file DIR/dev-admin.secret
  liveops players export ann -o ann.ndjson --secret-file DIR/dev-admin.secret
  liveops players erase ann "asked by mail" --secret-file DIR/dev-admin.secret
  liveops players cancel ann --secret-file DIR/dev-admin.secret`
}

func pathOf(player string) string { return "/v1/players/" + url.PathEscape(player) }

type playersExport struct {
	Player string `arg:"" help:"The player."`
	Output string `short:"o" help:"Where to write; standard output when not given." placeholder:"FILE"`
	address
	operator
}

func (c playersExport) Run(ctx context.Context, t *terminal) error {
	me, err := c.signed(identity(c.operator))
	if err != nil {
		return err
	}
	if c.Output == "" {
		return me.stream(ctx, pathOf(c.Player)+"/export", t.out)
	}
	response, err := me.send(ctx, http.MethodGet, pathOf(c.Player)+"/export", nil) // before there is a file
	if err != nil {
		return err
	}
	defer response.Body.Close() //nolint:errcheck // what was not read of it is an error of the copy
	file, err := os.OpenFile(c.Output, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, response.Body)
	return errors.Join(err, file.Close())
}

type shownErasure struct {
	PlayerID    string `json:"player_id"`
	State       string `json:"state"`
	DueAt       string `json:"due_at"`
	ErasedAt    string `json:"erased_at"`
	RequestedBy string `json:"requested_by"`
	Reason      string `json:"reason"`
}

func (e shownErasure) print(t *terminal) {
	switch e.State {
	case "waiting":
		t.out.printf("%s  %s until %s, asked by %s: %s\n", e.PlayerID, e.State, e.DueAt, e.RequestedBy, e.Reason)
	case "none":
		t.out.printf("%s  %s\n", e.PlayerID, e.State)
	default:
		t.out.printf("%s  %s  %s\n", e.PlayerID, e.State, cmp.Or(e.ErasedAt, "since "+e.DueAt))
	}
}

type playersErase struct {
	Player string `arg:"" help:"The player."`
	Reason string `arg:"" help:"Why."`
	order
}

func (c playersErase) Run(ctx context.Context, t *terminal) error {
	var done shownErasure
	if err := c.send(ctx, pathOf(c.Player)+"/erasure", map[string]string{"reason": c.Reason}, &done); err != nil {
		return err
	}
	done.print(t)
	return nil
}

type playersCancel struct {
	Player string `arg:"" help:"The player."`
	order
}

func (c playersCancel) Run(ctx context.Context, t *terminal) error {
	var done shownErasure
	if err := c.send(ctx, pathOf(c.Player)+"/erasure/cancel", map[string]string{}, &done); err != nil {
		return err
	}
	done.print(t)
	return nil
}

type playersErasure struct {
	Player string `arg:"" help:"The player."`
	address
	operator
}

func (c playersErasure) Run(ctx context.Context, t *terminal) error {
	me, err := c.signed(identity(c.operator))
	if err != nil {
		return err
	}
	var one shownErasure
	if err := me.do(ctx, http.MethodGet, pathOf(c.Player)+"/erasure", nil, &one); err != nil {
		return err
	}
	one.print(t)
	return nil
}
