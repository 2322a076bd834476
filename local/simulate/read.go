package simulate

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"liveops/core/event"
)

// Accept makes an event what it would be if a trusted server had sent it at once.
func Accept(e event.Event) event.Accepted {
	return event.Accepted{Event: e, At: e.OccurredAt, ReceivedAt: e.OccurredAt, KeyID: "recording"}
}

// Events is a source of events at hand, taken as if they had been sent at once.
func Events(events []event.Event) Source {
	return func(_ context.Context, fn func(event.Accepted) error) error {
		for _, e := range events {
			if err := fn(Accept(e)); err != nil {
				return err
			}
		}
		return nil
	}
}

// Read is a source of NDJSON, gzipped or not: accepted events, as Copied writes them, or events as clients send them, which are
// taken as if they had been sent at once. Empty lines are passed over. What goes wrong names the line.
func Read(from io.Reader) Source {
	return func(ctx context.Context, fn func(event.Accepted) error) error {
		in, err := unzipped(from)
		if err != nil {
			return err
		}
		lines := bufio.NewScanner(in)
		lines.Buffer(nil, 8*event.MaxSize) // an accepted event may be written longer than it came
		n := 1
		for ; lines.Scan(); n++ {
			if err := ctx.Err(); err != nil {
				return err
			}
			line := bytes.TrimSpace(lines.Bytes())
			if len(line) == 0 {
				continue
			}
			e, err := read(line)
			if err == nil {
				err = fn(e)
			}
			if err != nil {
				return fmt.Errorf("line %d: %w", n, err)
			}
		}
		if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
			return fmt.Errorf("line %d: longer than any event may be", n)
		} else if err != nil {
			return err
		}
		return nil
	}
}

// Copied gives the events of a source and writes each as NDJSON before it is given.
func Copied(to io.Writer, events Source) Source {
	return func(ctx context.Context, fn func(event.Accepted) error) error {
		return events(ctx, func(e event.Accepted) error {
			line, err := e.Encode()
			if err != nil {
				return fmt.Errorf("write event %s: %w", e.Identity(), err)
			}
			if _, err := to.Write(append(line, '\n')); err != nil {
				return err
			}
			return fn(e)
		})
	}
}

// unzipped looks at the first bytes, whatever the file is called.
func unzipped(from io.Reader) (io.Reader, error) {
	in := bufio.NewReader(from)
	if magic, err := in.Peek(2); err != nil || magic[0] != 0x1f || magic[1] != 0x8b {
		return in, nil //nolint:nilerr // shorter than that it is no gzip, and the reader will say what else is wrong
	}
	return gzip.NewReader(in)
}

// read reads an event that was accepted, which says when, or that was not yet.
func read(line []byte) (event.Accepted, error) {
	var kind struct {
		ReceivedAt jsontext.Value `json:"received_at"`
	}
	if json.Unmarshal(line, &kind) == nil && kind.ReceivedAt != nil {
		return event.DecodeAccepted(line)
	}
	e, err := event.Decode(line)
	return Accept(e), err
}
