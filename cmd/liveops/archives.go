package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

type archivesCommand struct {
	List   archivesList   `cmd:"" default:"withargs" help:"List the closed windows of a board, newest first."`
	Export archivesExport `cmd:"" help:"Write the whole final order of a window to standard output, sealed."`
	Proof  archivesProof  `cmd:"" help:"Write a player's final place and its proof to standard output."`
	Keys   archivesKeys   `cmd:"" help:"Write the public keys of the seals to standard output."`
}

// Help implements kong's longer help.
func (archivesCommand) Help() string {
	return `What export and proof write is checked offline by liveops verify archive, with what keys writes.

Examples:
  liveops archives arena-score --secret-file DIR/dev-server.secret
  liveops archives export arena-score 2026-11-22 --secret-file DIR/dev-server.secret > day.ndjson
  liveops archives keys > keys.json`
}

type archivesList struct {
	Board   string `arg:"" help:"The board."`
	Cadence string `help:"Only windows of this cadence." enum:"daily,weekly,season," default:""`
	page
	address
	optionalIdentity
}

// Validate implements kong's check of the flags.
func (c archivesList) Validate() error { return errors.Join(c.page.Validate(), c.address.Validate()) }

func (c archivesList) Run(ctx context.Context, t *terminal) error {
	me, err := c.maybeSigned(c.optionalIdentity)
	if err != nil {
		return err
	}
	query := present(map[string]string{"cadence": c.Cadence, "limit": strconv.Itoa(c.Limit)})
	var answer struct {
		Archives []struct {
			Window struct {
				ID string `json:"id"`
			} `json:"window"`
			Archive struct {
				Sequence int64  `json:"sequence"`
				Entries  int64  `json:"entries"`
				ClosedAt string `json:"closed_at"`
			} `json:"archive"`
			Winner struct {
				PlayerID string `json:"player_id"`
				Score    int64  `json:"score"`
			} `json:"winner"`
		} `json:"archives"`
	}
	if err := me.do(ctx, http.MethodGet, archivesOf(c.Board)+"?"+query.Encode(), nil, &answer); err != nil {
		return err
	}
	t.out.table(0, func(row func(string, ...any)) {
		for _, one := range answer.Archives {
			row("%d\t%s\t%s\t%d places\t%s\t%d", one.Archive.Sequence, one.Window.ID, one.Archive.ClosedAt, one.Archive.Entries, one.Winner.PlayerID, one.Winner.Score)
		}
	})
	return nil
}

func archivesOf(board string) string {
	return "/v1/leaderboards/" + url.PathEscape(board) + "/archives"
}

type archivesExport struct {
	Board  string `arg:"" help:"The board."`
	Window string `arg:"" help:"The window's id."`
	CSV    bool   `help:"Write a table for people, which cannot be verified."`
	address
	identity
}

func (c archivesExport) Run(ctx context.Context, t *terminal) error {
	me, err := c.signed(c.identity)
	if err != nil {
		return err
	}
	path := archivesOf(c.Board) + "/" + url.PathEscape(c.Window) + "/export"
	if c.CSV {
		path += "?format=csv"
	}
	return me.stream(ctx, path, t.out)
}

type archivesProof struct {
	Board  string `arg:"" help:"The board."`
	Window string `arg:"" help:"The window's id."`
	Player string `arg:"" help:"The player."`
	address
	optionalIdentity
}

func (c archivesProof) Run(ctx context.Context, t *terminal) error {
	me, err := c.maybeSigned(c.optionalIdentity)
	if err != nil {
		return err
	}
	return me.stream(ctx, archivesOf(c.Board)+"/"+url.PathEscape(c.Window)+"/players/"+url.PathEscape(c.Player), t.out)
}

type archivesKeys struct{ address }

func (c archivesKeys) Run(ctx context.Context, t *terminal) error {
	return client{url: strings.TrimSuffix(c.URL, "/")}.stream(ctx, "/v1/receipts/keys", t.out)
}

// stream copies the answer of a read to where the command writes.
func (c client) stream(ctx context.Context, path string, to io.Writer) error {
	response, err := c.send(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	defer response.Body.Close() //nolint:errcheck // what was not read of it is an error of the copy
	_, err = io.Copy(to, response.Body)
	return err
}
