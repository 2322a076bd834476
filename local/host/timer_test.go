package host_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"liveops/local/host"
)

// clock is a time that moves when told. waiting gets one value for every After.
type clock struct {
	mu      sync.Mutex
	now     time.Time
	alarms  map[chan time.Time]time.Time
	waiting chan time.Duration
}

func newClock() *clock {
	return &clock{
		now:    time.Date(2025, 6, 1, 11, 59, 45, 0, time.UTC),
		alarms: map[chan time.Time]time.Time{}, waiting: make(chan time.Duration, 100),
	}
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) After(d time.Duration) <-chan time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	alarm := make(chan time.Time, 1)
	c.alarms[alarm] = c.now.Add(d)
	c.waiting <- d
	return alarm
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
	for alarm, at := range c.alarms {
		if !at.After(c.now) {
			alarm <- c.now
			delete(c.alarms, alarm)
		}
	}
}

// Contract §3.6: the payload, nested and not double-encoded; ScheduleStatus null without a monitor and for schedules more
// often than once a minute; year 1 on the first run.
func TestTimerPayload(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		schedule, more string
		first, second  string
	}{
		"monitored": {
			"0 */5 * * * *", "",
			`{"IsPastDue":false,"Schedule":{"AdjustForDST":true},"ScheduleStatus":{"Last":"0001-01-01T00:00:00+00:00","Next":"2025-06-01T12:00:00+00:00","LastUpdated":"0001-01-01T00:00:00+00:00"}}`,
			`{"IsPastDue":false,"Schedule":{"AdjustForDST":true},"ScheduleStatus":{"Last":"2025-06-01T12:00:00+00:00","Next":"2025-06-01T12:05:00+00:00","LastUpdated":"2025-06-01T12:00:00+00:00"}}`,
		},
		"useMonitor false": {
			"0 */5 * * * *", `,"useMonitor":false`,
			`{"IsPastDue":false,"Schedule":{"AdjustForDST":true},"ScheduleStatus":null}`, `{"IsPastDue":false,"Schedule":{"AdjustForDST":true},"ScheduleStatus":null}`,
		},
		"every 15 seconds": {
			"*/15 * * * * *", "",
			`{"IsPastDue":false,"Schedule":{"AdjustForDST":true},"ScheduleStatus":null}`, `{"IsPastDue":false,"Schedule":{"AdjustForDST":true},"ScheduleStatus":null}`,
		},
		"a TimeSpan": {
			"00:00:15", "",
			`{"IsPastDue":false,"Schedule":{"AdjustForDST":false},"ScheduleStatus":null}`, `{"IsPastDue":false,"Schedule":{"AdjustForDST":false},"ScheduleStatus":null}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			clock, got := newClock(), make(chan seen, 1)
			r := start(t, map[string]string{"host.json": hostJSON(proxied, ""), "Nightly": timerFunction(c.schedule, c.more)},
				host.Options{Handler: recorder(got), Now: clock.Now, After: clock.After})
			require.Equal(t, 15*time.Second, <-clock.waiting)
			clock.advance(15 * time.Second)
			s := <-got
			require.Equal(t, "/Nightly", s.request.RequestURI)
			require.Equal(t, c.first, string(s.Data["timer"]))
			require.Len(t, s.Metadata, 1)
			var sys struct{ MethodName, UtcNow, RandGuid string }
			require.NoError(t, json.Unmarshal(s.Metadata["sys"], &sys))
			require.Equal(t, "Nightly", sys.MethodName)
			require.Equal(t, "2025-06-01T12:00:00Z", sys.UtcNow)
			require.Len(t, sys.RandGuid, 36)
			require.NoError(t, r.next().Err)
			clock.advance(<-clock.waiting)
			require.Equal(t, c.second, string((<-got).Data["timer"]))
		})
	}
}

// Contract §7: one invocation at a time per timer, missed ticks collapse, a failed one is not repeated until the next tick.
func TestTimerTicks(t *testing.T) {
	t.Parallel()
	clock := newClock()
	arrived, answers := make(chan struct{}), make(chan int)
	r := start(t, map[string]string{"host.json": hostJSON(proxied, ""), "sweep": timerFunction("*/30 * * * * *", "")}, host.Options{
		Now: clock.Now, After: clock.After, Handler: handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/" {
				return
			}
			arrived <- struct{}{}
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(<-answers)
			_, _ = io.WriteString(w, "{}")
		})),
	})
	require.Equal(t, 15*time.Second, <-clock.waiting)
	clock.advance(15 * time.Second) // 12:00:00
	<-arrived
	clock.advance(100 * time.Second) // 12:01:40: three ticks pass while it runs
	require.Empty(t, clock.waiting)
	answers <- 500
	require.ErrorContains(t, r.next().Err, "500")
	require.Equal(t, 20*time.Second, <-clock.waiting, "the next tick is 12:02:00, and nothing is made up for")
	clock.advance(20 * time.Second)
	<-arrived
	answers <- 200
	require.NoError(t, r.next().Err)
	require.Equal(t, 30*time.Second, <-clock.waiting)
}

// Contract §7: runOnStartup runs at every start; §10: POST /admin/functions/<name> triggers by hand.
func TestTimerWithoutATick(t *testing.T) {
	t.Parallel()
	clock, got := newClock(), make(chan seen, 2)
	r := start(t, map[string]string{"host.json": hostJSON(proxied, ""), "sweep": timerFunction("0 0 0 1 1 *", `,"runOnStartup":true`)},
		host.Options{Handler: recorder(got), Now: clock.Now, After: clock.After})
	require.Contains(t, string((<-got).Data["timer"]), `"IsPastDue":false`)
	require.NoError(t, r.next().Err)
	require.Equal(t, 202, r.do("POST", "/admin/functions/sweep", strings.NewReader(`{"input":""}`)).status)
	require.Contains(t, string((<-got).Data["timer"]), `"ScheduleStatus":null`)
	require.NoError(t, r.next().Err)
}

func TestDue(t *testing.T) {
	t.Parallel()
	app, err := host.Load(root(map[string]string{
		"host.json": hostJSON(proxied, ""), "half": timerFunction("*/30 * * * * *", ""), "minute": timerFunction("0 * * * * *", ""),
		"new-year": timerFunction("0 0 0 1 1 *", ""), "span": timerFunction("00:10:00", ""), "orders": queueFunction(""),
	}), env())
	require.NoError(t, err)
	h := host.New(app, host.Options{})
	at := time.Date(2025, 12, 31, 23, 58, 0, 0, time.UTC)
	for _, c := range []struct {
		after, by time.Duration
		want      []string
	}{
		{0, 0, nil},
		{0, 29 * time.Second, nil},
		{0, 30 * time.Second, []string{"half"}},
		{30 * time.Second, 30 * time.Second, nil},
		{30 * time.Second, 59999 * time.Millisecond, nil},
		{59999 * time.Millisecond, time.Minute, []string{"half", "minute"}},
		{0, time.Hour, []string{"half", "minute", "new-year", "span"}},
		{2 * time.Minute, 11 * time.Minute, []string{"half", "minute"}},
		{time.Minute, 0, nil},
	} {
		require.Equal(t, c.want, h.Due(at.Add(c.after), at.Add(c.by)), "after %v, by %v", c.after, c.by)
	}
}
