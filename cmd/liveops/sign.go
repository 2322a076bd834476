package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"liveops/core/event"
	"liveops/core/signing"
)

type signCommand struct {
	File string `arg:"" help:"File with one event as JSON, - for standard input." type:"existingfile"`
	address
	identity
}

// Help implements kong's longer help.
func (signCommand) Help() string {
	return `The line posts the event. It is good for one request within five minutes.

Examples:
  liveops sign event.json --secret-file DIR/dev-server.secret | sh
  liveops sample --events 1 | liveops sign - --secret-file DIR/dev-server.secret`
}

// Validate implements kong's check of the flags.
func (c signCommand) Validate() error { return c.address.Validate() }

func (c signCommand) Run(ctx context.Context, t *terminal) error {
	body, err := readFile(c.File, t.in)
	if err != nil {
		return err
	}
	body = bytes.TrimSpace(body)
	if _, err := event.Decode(body); err != nil {
		return fmt.Errorf("%s: %w", c.File, err)
	}
	me, err := c.signed(c.identity)
	if err != nil {
		return err
	}
	line, err := me.curl(ctx, body, time.Now())
	if err != nil {
		return err
	}
	t.out.printf("%s\n", line)
	return nil
}

// curl is a command line that posts an event, signed now.
func (c client) curl(ctx context.Context, body []byte, now time.Time) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url+"/v1/events", nil)
	if err != nil {
		return "", err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set(signing.HeaderIdempotency, signing.NewNonce())
	if err := signing.SignHTTP(request, *c.key, body, now, signing.NewNonce()); err != nil {
		return "", err
	}
	names := make([]string, 0, len(request.Header))
	for name := range request.Header {
		names = append(names, name)
	}
	slices.Sort(names)
	var line strings.Builder
	fmt.Fprintf(&line, "curl -sS %s", quote(request.URL.String()))
	for _, name := range names {
		fmt.Fprintf(&line, " \\\n  -H %s", quote(name+": "+request.Header.Get(name)))
	}
	fmt.Fprintf(&line, " \\\n  --data-binary %s", quote(string(body)))
	return line.String(), nil
}

// quote makes one word of a shell's command line.
func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

// readFile reads a file, or standard input for -.
func readFile(name string, in io.Reader) ([]byte, error) {
	if name == "-" {
		return io.ReadAll(in)
	}
	return os.ReadFile(name)
}
