package clock_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"liveops/local/clock"
)

var start = time.Date(2022, 11, 1, 0, 0, 0, 0, time.UTC)

// TestClock holds a clock to the latest instant it was set to.
func TestClock(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c, latest := clock.New(start.In(time.FixedZone("east", 3600))), start
		for _, offset := range rapid.SliceOf(rapid.Int64Range(-100, 100)).Draw(t, "offsets") {
			to := latest.Add(time.Duration(offset) * time.Nanosecond).In(time.FixedZone("west", -3600))
			err := c.Set(to)
			if offset < 0 {
				require.ErrorIs(t, err, clock.ErrBack)
				require.ErrorContains(t, err, latest.Format(time.RFC3339Nano))
			} else {
				require.NoError(t, err)
				latest = to.UTC()
			}
			require.Equal(t, latest, c.Now())
		}
	})
}

// TestClockStands: an instant that was read from the machine's clock does not go on with it.
func TestClockStands(t *testing.T) {
	t.Parallel()
	c := clock.New(time.Now())
	require.Equal(t, c.Now().Round(0), c.Now(), "no reading of the monotonic clock in it")
	require.NoError(t, c.Set(time.Now().Add(time.Hour)))
	require.Equal(t, c.Now().Round(0), c.Now())
}

// world moves a clock and nothing else.
type world struct {
	*clock.Clock
	next time.Time
	down error
}

func (w *world) read() clock.Reading { return clock.Reading{Now: w.Now(), Next: w.next} }

type served struct{ *world }

func (s served) Clock(context.Context) (clock.Reading, error) { return s.read(), s.down }

func (s served) Move(_ context.Context, to time.Time) (clock.Reading, error) {
	if s.down != nil {
		return clock.Reading{}, s.down
	}
	err := s.Set(to)
	return s.read(), err
}

func serve(t *testing.T, w *world) string {
	t.Helper()
	server := httptest.NewServer(clock.Handler(served{w}))
	t.Cleanup(server.Close)
	return server.URL
}

func TestRemote(t *testing.T) {
	t.Parallel()
	w := &world{Clock: clock.New(start), next: start.Add(24 * time.Hour)}
	remote := clock.Remote{URL: serve(t, w) + "/"}
	reading, err := remote.Clock(t.Context())
	require.NoError(t, err)
	require.Equal(t, clock.Reading{Now: start, Next: w.next}, reading)

	to := start.Add(time.Hour + 1500*time.Microsecond)
	_, err = remote.Move(t.Context(), to)
	require.NoError(t, err)
	require.Equal(t, to, w.Now())
	_, err = remote.Move(t.Context(), start)
	require.ErrorIs(t, err, clock.ErrBack)
	require.EqualError(t, err, "a clock does not go back: it stands at 2022-11-01T01:00:00.0015Z, 2022-11-01T00:00:00Z is before")
	require.Equal(t, to, w.Now())

	w.next = time.Time{}
	reading, err = remote.Clock(t.Context())
	require.NoError(t, err)
	require.Equal(t, clock.Reading{Now: to}, reading, "nothing is to come")

	w.down = errors.New("3 messages are still under way")
	_, err = remote.Move(t.Context(), to)
	require.EqualError(t, err, "the clock answered 503 Service Unavailable: 3 messages are still under way")
	_, err = remote.Clock(t.Context())
	require.ErrorContains(t, err, "503")
}

func TestRemoteOfSomethingElse(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"status":"ok"}`) }))
	t.Cleanup(server.Close)
	_, err := clock.Remote{URL: server.URL}.Clock(t.Context())
	require.EqualError(t, err, server.URL+" does not answer as a clock")
	_, err = clock.Remote{URL: "http://127.0.0.1:1"}.Move(t.Context(), start)
	require.ErrorContains(t, err, "connection refused")
}

func TestHandler(t *testing.T) {
	t.Parallel()
	w := &world{Clock: clock.New(start), next: start.Add(24 * time.Hour)}
	url := serve(t, w)
	for _, c := range []struct {
		method, path, body, origin string
		status                     int
		want                       string
	}{
		{"GET", "/clock", "", "", 200, `{"now":"2022-11-01T00:00:00Z","next":"2022-11-02T00:00:00Z"}`},
		{"POST", "/clock", `{"to": "2022-11-01T02:00:00+01:00"}`, "", 200, `{"now":"2022-11-01T01:00:00Z","next":"2022-11-02T00:00:00Z"}`},
		{"POST", "/clock", `{"to": "2022-11-01T00:59:59.999Z"}`, "", 409, "does not go back"},
		{"POST", "/clock", "", "", 400, "the body must be like"},
		{"POST", "/clock", "{}", "", 400, "to is missing"},
		{"POST", "/clock", `{"to": "tomorrow"}`, "", 400, "the body must be like"},
		{"POST", "/clock", `{"to": "2022-11-03"}`, "", 400, "the body must be like"},
		{"POST", "/clock", `{"to": "2022-11-03T00:00:00Z", "now": true}`, "", 400, "now"},
		{"POST", "/clock", `{"to": "2022-11-03T00:00:00Z"` + strings.Repeat(" ", 5000) + "}", "", 400, "too large"},
		{"POST", "/clock", `{"to": "2022-11-03T00:00:00Z"}`, "https://elsewhere.example", 403, ""},
		{"PUT", "/clock", `{"to": "2022-11-03T00:00:00Z"}`, "", 405, ""},
		{"GET", "/", "", "", 404, ""},
	} {
		request, err := http.NewRequestWithContext(t.Context(), c.method, url+c.path, strings.NewReader(c.body))
		require.NoError(t, err)
		if c.origin != "" {
			request.Header.Set("Origin", c.origin)
		}
		response, err := http.DefaultClient.Do(request)
		require.NoError(t, err)
		text, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		require.Equal(t, c.status, response.StatusCode, "%s %s: %s", c.method, c.body, text)
		require.Contains(t, string(text), c.want)
	}
	require.Equal(t, start.Add(time.Hour), w.Now())
}
