package main

import (
	"cmp"
	"context"
	"errors"
	"net/url"
	"strings"

	"github.com/go-json-experiment/json"
)

// shownEntry is a row of the ledger as the API tells it.
type shownEntry struct {
	EventID     string `json:"event_id"`
	Kind        string `json:"kind"`
	EventType   string `json:"event_type"`
	Delta       int64  `json:"delta"`
	Balance     int64  `json:"balance"`
	Modifier    string `json:"modifier"`
	EffectiveAt string `json:"effective_at"`
	Notes       []struct {
		Code   string `json:"code"`
		Ref    string `json:"ref"`
		Amount int64  `json:"amount"`
	} `json:"notes"`
}

// noted is what the event asked for and did not get, and what changed its XP.
func (e shownEntry) noted() string {
	var parts []string
	if e.Modifier != "" {
		parts = append(parts, "by "+e.Modifier)
	}
	for _, n := range e.Notes {
		parts = append(parts, n.Code+" "+n.Ref)
	}
	return strings.Join(parts, ", ")
}

func printEntries(to *printer, entries []shownEntry) {
	to.table(0, func(row func(string, ...any)) {
		for _, e := range entries {
			row("%s\t%s\t%s\t%s\t%+d\t%d\t%s", e.EffectiveAt, e.EventID, e.EventType, e.Kind, e.Delta, e.Balance, e.noted())
		}
	})
}

type playersLedger struct {
	Player string `arg:"" help:"The player."`
	Item   string `help:"Only what changed this item." placeholder:"ITEM"`
	Type   string `help:"Only what events of this type did." placeholder:"TYPE"`
	page
	address
	identity
}

// Validate implements kong's check of the flags.
func (c playersLedger) Validate() error { return errors.Join(c.page.Validate(), c.address.Validate()) }

func (c playersLedger) Run(ctx context.Context, t *terminal) error {
	me, err := c.signed(c.identity)
	if err != nil {
		return err
	}
	var entries []shownEntry
	query := present(map[string]string{"item": c.Item, "type": c.Type})
	err = me.each(ctx, pathOf(c.Player)+"/ledger", query, c.Limit, func(text []byte) (int, string, error) {
		var answer struct {
			Entries []shownEntry `json:"entries"`
			Next    string       `json:"next"`
		}
		err := json.Unmarshal(text, &answer)
		entries = append(entries, answer.Entries...)
		return len(answer.Entries), answer.Next, err
	})
	if err != nil {
		return err
	}
	printEntries(t.out, entries)
	return nil
}

type playersReverse struct {
	Player string `arg:"" help:"The player."`
	Event  string `arg:"" help:"The event's id; of a mail that was claimed, the mail's."`
	Reason string `arg:"" help:"Why, for the record."`
	order
}

// Help implements kong's longer help.
func (playersReverse) Help() string {
	return `Once: a repeat prints what is on record. The player keeps his level, and what is not there
any more is not taken. Mails of the event that wait are withdrawn; those that were claimed are
listed, to be reversed by their own ids.

Examples:
  liveops players reverse ann 01a202d6-572e-7218-93e0-ef1388aec85b "granted twice" --secret-file DIR/dev-admin.secret`
}

func (c playersReverse) Run(ctx context.Context, t *terminal) error {
	var done struct {
		ReversalID string       `json:"reversal_id"`
		At         string       `json:"at"`
		Actor      string       `json:"actor"`
		Reason     string       `json:"reason"`
		Entries    []shownEntry `json:"entries"`
		Withdrawn  []string     `json:"withdrawn_mails"`
		Claimed    []string     `json:"claimed_mails"`
	}
	path := "/v1/operations/players/" + url.PathEscape(c.Player) + "/events/" + url.PathEscape(c.Event) + "/reverse"
	if err := c.send(ctx, path, map[string]string{"reason": c.Reason}, &done); err != nil {
		return err
	}
	t.out.printf("%s  %s by %s: %s\n", done.ReversalID, done.At, done.Actor, done.Reason)
	printEntries(t.out, done.Entries)
	t.out.printf("mails withdrawn: %s\n", cmp.Or(strings.Join(done.Withdrawn, " "), "none"))
	t.out.printf("mails that were claimed, each to be reversed by its own id: %s\n", cmp.Or(strings.Join(done.Claimed, " "), "none"))
	return nil
}
