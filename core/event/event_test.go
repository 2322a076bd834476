package event_test

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"liveops/core/event"
)

func roundTrip(t require.TestingT, a event.Accepted) {
	body, err := a.Encode()
	require.NoError(t, err)
	again, err := event.DecodeAccepted(body)
	require.NoError(t, err)
	require.Equal(t, a, again)
	repeated, err := again.Encode()
	require.NoError(t, err)
	require.Equal(t, string(body), string(repeated))
}

func TestAcceptedRoundTrip(t *testing.T) {
	t.Parallel()
	id := rapid.StringMatching(`[A-Za-z0-9_-]{1,63}`)
	moment := rapid.Custom(func(t *rapid.T) time.Time {
		return time.UnixMilli(rapid.Int64Range(1, 253402300799999).Draw(t, "ms")).UTC()
	})
	value := rapid.OneOf(
		rapid.Float64Range(-1e300, 1e300).AsAny(),
		rapid.String().AsAny(), rapid.Bool().AsAny(), rapid.Just[any](nil),
		rapid.SliceOf(rapid.Just[any]("x")).AsAny(),
	)
	rapid.Check(t, func(t *rapid.T) {
		roundTrip(t, event.Accepted{
			Event: event.Event{
				ID: id.Draw(t, "id"), Type: id.Draw(t, "type"), PlayerID: id.Draw(t, "player"), OccurredAt: moment.Draw(t, "occurred"),
				Seq: rapid.Int64Range(0, event.MaxInteger).Draw(t, "seq"), Data: rapid.MapOf(rapid.String(), value).Draw(t, "data"),
			},
			At: moment.Draw(t, "at"), ReceivedAt: moment.Draw(t, "received"), KeyID: id.Draw(t, "key"),
		})
	})
}

func TestEncodeIsTheSameEveryTime(t *testing.T) {
	t.Parallel()
	a := event.Accepted{
		Event: event.Event{ID: "e", Type: "t", PlayerID: "p", OccurredAt: at("2026-11-22T18:30:00.120Z"), Data: map[string]any{
			"z": 1.0, "a": map[string]any{"y": true, "b": nil}, "m": "<&>", "k": 9007199254740991.0,
		}},
		At: at("2026-11-22T18:30:00.120Z"), ReceivedAt: at("2026-11-22T18:30:01Z"), KeyID: "server-1",
	}
	const want = `{"event_id":"e","type":"t","player_id":"p","occurred_at":"2026-11-22T18:30:00.12Z",` +
		`"data":{"a":{"b":null,"y":true},"k":9007199254740991,"m":"<&>","z":1},` +
		`"at":"2026-11-22T18:30:00.12Z","received_at":"2026-11-22T18:30:01Z","key_id":"server-1"}`
	for range 50 {
		body, err := a.Encode()
		require.NoError(t, err)
		require.Equal(t, want, string(body)) //nolint:testifylint // the bytes, not their meaning
	}
}

func TestDecodeAcceptedReadsAnyZone(t *testing.T) {
	t.Parallel()
	a, err := event.DecodeAccepted([]byte(`{"event_id":"e","type":"t","player_id":"p","occurred_at":"2026-11-22T18:30:00+01:00","data":{},` +
		`"at":"2026-11-22T18:30:00+01:00","received_at":"2026-11-22T18:30:00+01:00","key_id":"k"}`))
	require.NoError(t, err)
	want := at("2026-11-22T17:30:00Z")
	require.Equal(t, []time.Time{want, want, want}, []time.Time{a.OccurredAt, a.At, a.ReceivedAt})
}

func TestIntAndText(t *testing.T) {
	t.Parallel()
	e := event.Event{Data: map[string]any{
		"zero": 0.0, "negative": -7.0, "most": float64(event.MaxInteger), "least": float64(-event.MaxInteger),
		"beyond": float64(event.MaxInteger) + 1, "below": -float64(event.MaxInteger) - 1, "fraction": 1.5, "infinite": math.Inf(1), "nan": math.NaN(),
		"text": "abc", "empty": "", "yes": true, "null": nil,
	}}
	for field, want := range map[string]int64{"zero": 0, "negative": -7, "most": event.MaxInteger, "least": -event.MaxInteger} {
		n, ok := e.Int(field)
		require.True(t, ok, field)
		require.Equal(t, want, n)
	}
	for _, field := range []string{"beyond", "below", "fraction", "infinite", "nan", "text", "yes", "null", "absent"} {
		n, ok := e.Int(field)
		require.False(t, ok, field)
		require.Zero(t, n)
	}
	for field, want := range map[string]string{"text": "abc", "empty": ""} {
		s, ok := e.Text(field)
		require.True(t, ok, field)
		require.Equal(t, want, s)
	}
	for _, field := range []string{"zero", "yes", "null", "absent"} {
		_, ok := e.Text(field)
		require.False(t, ok, field)
	}
	_, ok := event.Event{}.Int("x")
	require.False(t, ok)
}
