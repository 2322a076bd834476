package main

import (
	"bytes"
	"context"
	"net/http"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

type verifyCommand struct {
	File string `arg:"" help:"File with a receipt, - for standard input." type:"existingfile"`
	address
	identity
}

// Help implements kong's longer help.
func (verifyCommand) Help() string {
	return `Asks the gateway, and prints what the receipt states. The exit code is 3 when it is not valid.

Examples:
  liveops verify receipt.jws --secret-file DIR/dev-server.secret
  pbpaste | liveops verify - --secret-file DIR/dev-server.secret`
}

// Validate implements kong's check of the flags.
func (c verifyCommand) Validate() error { return c.address.Validate() }

func (c verifyCommand) Run(ctx context.Context, t *terminal) error {
	token, err := readFile(c.File, t.in)
	if err != nil {
		return err
	}
	me, err := c.signed(c.identity)
	if err != nil {
		return err
	}
	return me.verify(ctx, t.out, string(bytes.TrimSpace(token)))
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
	to.printf("valid\n%s\n", answer.Claims)
	return nil
}
