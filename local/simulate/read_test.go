package simulate_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"liveops/core/event"
	"liveops/core/fault"
	"liveops/local/simulate"
)

func collect(t *testing.T, from io.Reader) []event.Accepted {
	t.Helper()
	var all []event.Accepted
	require.NoError(t, simulate.Read(from)(t.Context(), func(e event.Accepted) error {
		all = append(all, e)
		return nil
	}))
	return all
}

func TestWrittenAndReadAgain(t *testing.T) {
	t.Parallel()
	events := []event.Accepted{score("ann", 0, 1), score("bob", 1, 2)}
	events[1].ReceivedAt, events[1].KeyID = noon.Add(time.Minute), "game"
	events[1].Data["received_at"] = "a member of the data"
	var text, packed bytes.Buffer
	var given []event.Accepted
	require.NoError(t, simulate.Copied(&text, source(events...))(t.Context(), func(e event.Accepted) error {
		given = append(given, e)
		return nil
	}))
	require.Equal(t, events, given)
	zip := gzip.NewWriter(&packed)
	_, err := zip.Write(text.Bytes())
	require.NoError(t, err)
	require.NoError(t, zip.Close())
	require.Equal(t, events, collect(t, &text))
	require.Equal(t, events, collect(t, &packed))
}

func TestEventsThatNobodyAcceptedYet(t *testing.T) {
	t.Parallel()
	const line = `{"event_id":"e","type":"t","player_id":"p","occurred_at":"2026-11-22T13:00:00+01:00","data":{"received_at":1}}`
	all := collect(t, strings.NewReader("\n"+line+"\n \n"))
	require.Equal(t, []event.Accepted{{
		Event: event.Event{ID: "e", Type: "t", PlayerID: "p", OccurredAt: noon, Data: map[string]any{"received_at": 1.0}},
		At:    noon, ReceivedAt: noon, KeyID: "recording",
	}}, all)
	require.Empty(t, collect(t, strings.NewReader("")))
}

func TestReadErrors(t *testing.T) {
	t.Parallel()
	none := func(event.Accepted) error { return nil }
	const line = `{"event_id":"e","type":"t","player_id":"p","occurred_at":"2026-11-22T13:00:00Z","data":{}}` + "\n"
	for text, want := range map[string]string{
		line + "nonsense":                 "line 2: malformed-json",
		line + "{}":                       "line 2: event-invalid",
		line + "{\"received_at\":5}":      "line 2: message-invalid",
		line + strings.Repeat("x", 1<<20): "line 2: longer than any event may be",
		"\x1f\x8b":                        "EOF",
		"\x1f\x8bnonsense":                "gzip",
	} {
		require.ErrorContains(t, simulate.Read(strings.NewReader(text))(t.Context(), none), want)
	}
	err := simulate.Read(strings.NewReader("nonsense"))(t.Context(), none)
	require.ErrorIs(t, err, fault.MalformedJSON)
	require.ErrorIs(t, simulate.Read(strings.NewReader(line))(t.Context(), func(event.Accepted) error { return errBroken }), errBroken)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, simulate.Read(strings.NewReader(line))(ctx, none), context.Canceled)
	require.ErrorIs(t, simulate.Copied(full{}, source(score("a", 0, 1)))(t.Context(), none), errBroken)
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errBroken }
