package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"liveops/core/fault"
	"liveops/core/receipt"
	"liveops/core/season"
)

type verifyCommand struct {
	Receipt verifyReceipt `cmd:"" help:"Check a receipt, at the gateway or offline."`
	Archive verifyArchive `cmd:"" help:"Check archived leaderboards, or proofs of places, offline."`
}

// Help implements kong's longer help.
func (verifyCommand) Help() string {
	return `The exit code is 3 when it is not genuine.

Examples:
  liveops verify receipt receipt.jws --secret-file DIR/dev-server.secret
  liveops verify archive arena-score-2026-11-22.ndjson --keys keys.json`
}

type verifyReceipt struct {
	File string `arg:"" help:"File with a receipt, - for standard input." type:"existingfile"`
	Keys string `help:"File with the public keys, from liveops archives keys: check offline a receipt that is signed with EdDSA." type:"existingfile" placeholder:"FILE" xor:"how" required:""`
	address
	KeyID      string `help:"Id of the key to sign with." default:"dev-server"`
	SecretFile string `help:"File with the key's secret: ask the gateway, which also knows whether the receipt was reversed." type:"existingfile" placeholder:"FILE" xor:"how" required:""`
}

// Help implements kong's longer help.
func (verifyReceipt) Help() string {
	return `Prints what the receipt states. The exit code is 3 when it is not valid.

Examples:
  liveops verify receipt receipt.jws --secret-file DIR/dev-server.secret
  pbpaste | liveops verify receipt - --keys keys.json`
}

// Validate implements kong's check of the flags.
func (c verifyReceipt) Validate() error { return c.address.Validate() }

func (c verifyReceipt) Run(ctx context.Context, t *terminal) error {
	token, err := readFile(c.File, t.in)
	if err != nil {
		return err
	}
	text := string(bytes.TrimSpace(token))
	if c.Keys != "" {
		return c.offline(t.out, text)
	}
	me, err := c.signed(identity{KeyID: c.KeyID, SecretFile: c.SecretFile})
	if err != nil {
		return err
	}
	return me.verify(ctx, t.out, text)
}

// offline checks a receipt with public keys. It is errRefused when the receipt is not valid.
func (c verifyReceipt) offline(to *printer, token string) error {
	keys, err := readKeys(c.Keys)
	if err != nil {
		return err
	}
	claims, err := receipt.VerifyWith(keys, token)
	if err != nil {
		to.printf("not valid: %s\n", fault.Of(err).Detail)
		return errRefused
	}
	text, err := json.Marshal(claims, jsontext.WithIndent("  "))
	if err != nil {
		return err
	}
	to.printf("valid, signed by a key of %s; whether it was reversed only the gateway knows\n%s\n", c.Keys, text)
	return nil
}

// readKeys reads a file of public keys.
func readKeys(name string) (jose.JSONWebKeySet, error) {
	var keys jose.JSONWebKeySet
	text, err := os.ReadFile(name)
	if err != nil {
		return keys, err
	}
	if err := json.Unmarshal(text, &keys); err != nil {
		return keys, fmt.Errorf("%s: %w", name, err)
	}
	if len(keys.Keys) == 0 {
		return keys, fmt.Errorf("%s holds no public keys", name)
	}
	return keys, nil
}

// verify prints what the gateway says about a receipt. It is errRefused when the receipt is not valid.
func (c client) verify(ctx context.Context, to *printer, token string) error {
	body, err := json.Marshal(map[string]string{"receipt": token})
	if err != nil {
		return err
	}
	var answer struct {
		Valid  bool           `json:"valid"`
		Reason string         `json:"reason"`
		Claims jsontext.Value `json:"claims"`

		OnRecord   bool   `json:"on_record"`
		ReversedAt string `json:"reversed_at"`
	}
	if err := c.do(ctx, http.MethodPost, "/v1/receipts/verify", body, &answer); err != nil {
		return err
	}
	if !answer.Valid {
		to.printf("not valid: %s\n", answer.Reason)
		return errRefused
	}
	if err := answer.Claims.Indent(jsontext.WithIndent("  ")); err != nil {
		return err
	}
	switch {
	case !answer.OnRecord:
		to.printf("valid, but not on record there\n%s\n", answer.Claims)
	case answer.ReversedAt != "":
		to.printf("valid, but reversed at %s\n%s\n", answer.ReversedAt, answer.Claims)
	default:
		to.printf("valid\n%s\n", answer.Claims)
	}
	return nil
}

type verifyArchive struct {
	Files []string `arg:"" name:"file" help:"Files of liveops archives export or proof. Of several archives of one board the chain is checked too." type:"existingfile"`
	Keys  string   `help:"File with the public keys, from liveops archives keys." type:"existingfile" placeholder:"FILE" required:""`
}

// Help implements kong's longer help.
func (verifyArchive) Help() string {
	return `Needs no network and nothing but the public keys. The exit code is 3 when a file is not
genuine, or archives of one board that follow each other do not name each other.

Examples:
  liveops verify archive arena-score-*.ndjson --keys keys.json`
}

func (c verifyArchive) Run(_ context.Context, t *terminal) error {
	keys, err := readKeys(c.Keys)
	if err != nil {
		return err
	}
	var genuine []season.Verified
	for _, name := range c.Files {
		file, err := os.Open(name)
		if err != nil {
			return err
		}
		found, err := season.VerifyFile(keys, file)
		_ = file.Close() // it was only read
		if err != nil {
			t.out.printf("%s: NOT genuine: %v\n", name, err)
			continue
		}
		t.out.printf("%s: genuine: %s\n", name, described(found))
		genuine = append(genuine, found)
	}
	unbroken := printChains(t.out, keys, genuine)
	if !unbroken || len(genuine) < len(c.Files) {
		return errRefused
	}
	return nil
}

// described is what a genuine file proves.
func described(v season.Verified) string {
	where := fmt.Sprintf("%s %s, %d places, archive %d of the board, closed %s", v.Board, v.Window, v.Entries, v.Sequence, v.ClosedAt.Format(time.RFC3339))
	if v.Row == nil {
		return where
	}
	return fmt.Sprintf("player %s has rank %d with score %d in %s", v.Row.Player, v.Row.Rank, v.Row.Score, where)
}

// printChains checks that the archives among the genuine ones which follow each other name each other, and says of which stretches of a board that is
// so.
func printChains(to *printer, keys jose.JSONWebKeySet, genuine []season.Verified) (unbroken bool) {
	slices.SortStableFunc(genuine, func(a, b season.Verified) int {
		return cmp.Or(cmp.Compare(a.Board, b.Board), cmp.Compare(a.Sequence, b.Sequence))
	})
	genuine = slices.CompactFunc(genuine, func(a, b season.Verified) bool { return a.Seal == b.Seal })
	unbroken = true
	for len(genuine) > 0 {
		n, seals := 1, []string{genuine[0].Seal}
		for n < len(genuine) && genuine[n].Board == genuine[0].Board && genuine[n].Sequence <= genuine[n-1].Sequence+1 {
			seals = append(seals, genuine[n].Seal)
			n++
		}
		if _, err := season.VerifyChain(keys, seals); err != nil {
			to.printf("%s: %v\n", genuine[0].Board, err)
			unbroken = false
		} else if n > 1 {
			to.printf("%s: archives %d to %d follow each other\n", genuine[0].Board, genuine[0].Sequence, genuine[n-1].Sequence)
		}
		genuine = genuine[n:]
	}
	return unbroken
}
