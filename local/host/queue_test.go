package host_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"liveops/core/bus"
	"liveops/core/fault"
	"liveops/local/host"
)

func orders(settings ...func(*bus.Queue)) *bus.Memory {
	q := bus.Queue{Name: "orders", MaxDeliveryCount: 1}
	for _, set := range settings {
		set(&q)
	}
	return bus.NewMemory(time.Now, q)
}

func counts(t testing.TB, broker *bus.Memory) bus.Counts {
	t.Helper()
	c, err := broker.Counts("orders")
	require.NoError(t, err)
	return c
}

// settled waits until no message of the queue is locked or waiting.
func settled(t testing.TB, broker *bus.Memory) bus.Counts {
	t.Helper()
	require.Eventually(t, func() bool {
		c := counts(t, broker)
		return c.Active == 0 && c.Locked == 0
	}, patience, time.Millisecond)
	return counts(t, broker)
}

// Contract §4.1, the table: what the handler answers and what becomes of the message; §6.3: success completes, failure
// abandons (here once is too often: it becomes a dead letter).
func TestAnswers(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		status            int
		contentType, body string
		fails             string
	}{
		"a JSON object":              {200, "application/json", `{}`, ""},
		"unknown members":            {200, "application/json; charset=utf-8", `{"status":"ok"}`, ""},
		"text/json":                  {202, "text/json", `{"Logs":[]}`, ""},
		"500":                        {500, "application/json", `{}`, "does not indicate success: 500"},
		"404":                        {404, "application/json", `{}`, "404"},
		"no Content-Type":            {200, "", `{}`, "media type"},
		"text/plain":                 {200, "text/plain; charset=utf-8", `{}`, "media type"},
		"invalid JSON":               {200, "application/json", `{`, "invalid HttpResponseMessage"},
		"an array":                   {200, "application/json", `[]`, "invalid HttpResponseMessage"},
		"a string":                   {200, "application/json", `"ok"`, "invalid HttpResponseMessage"},
		"Logs of the wrong type":     {200, "application/json", `{"Logs":"x"}`, "invalid HttpResponseMessage"},
		"a redirect without a place": {302, "application/json", `{}`, "302"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			broker := orders()
			r := start(t, map[string]string{"host.json": hostJSON(proxied, ""), "f": queueFunction(`,"cardinality":"many","dataType":"binary"`)},
				host.Options{Handler: reply(c.status, c.contentType, c.body), Bus: broker})
			publish(t, broker, "one")
			inv := r.next()
			dead := 0
			if c.fails == "" {
				require.NoError(t, inv.Err)
			} else {
				require.ErrorContains(t, inv.Err, c.fails)
				dead = 1
			}
			require.Equal(t, bus.Counts{Dead: dead}, settled(t, broker))
		})
	}
}

// Contract §4.1: "empty body (200 or 204), or body null … the invocation hangs until functionTimeout, then the handler process
// is killed"; §2.5: the restart is not an error.
func TestEmptyAnswerHangs(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		status int
		body   string
	}{"200 and nothing": {200, ""}, "204": {204, ""}, "null": {200, "null"}, "white space": {200, " \n"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var lives atomic.Int32
			serve := serving(replying(c.status, "application/json", c.body))
			broker := orders(func(q *bus.Queue) { q.MaxDeliveryCount = 4 })
			r := start(t, map[string]string{
				"host.json": hostJSON(proxied, `"functionTimeout":"00:00:00.15"`), "f": queueFunction(`,"cardinality":"many","dataType":"binary"`),
			}, host.Options{Bus: broker, Handler: host.InProcess(func(ctx context.Context, getenv func(string) string) error {
				lives.Add(1)
				return serve(ctx, getenv)
			})})
			publish(t, broker, "one")
			for range 4 {
				inv := r.next()
				require.ErrorIs(t, inv.Err, host.ErrHang)
				require.ErrorIs(t, inv.Err, host.ErrTimeout)
				require.GreaterOrEqual(t, inv.Duration, 150*time.Millisecond)
			}
			require.Equal(t, bus.Counts{Dead: 1}, settled(t, broker))
			require.Eventually(t, func() bool { return lives.Load() == 5 }, patience, time.Millisecond)
			require.NoError(t, r.stop())
		})
	}
}

// Contract §2.5: a timeout kills all other invocations in flight: their messages are abandoned.
func TestTimeoutFailsTheOthersInFlight(t *testing.T) {
	t.Parallel()
	broker := orders()
	arrived := make(chan struct{}, 2)
	r := start(t, map[string]string{
		"host.json": hostJSON("", `"functionTimeout":"00:00:00.5"`),
		"f":         queueFunction(""), "nightly": timerFunction("0 0 0 1 1 *", ""),
	}, host.Options{Bus: broker, Handler: handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/" {
			_, _ = io.Copy(io.Discard, r.Body)
			arrived <- struct{}{}
			<-r.Context().Done()
		}
	}))})
	go r.host.Trigger(context.Background(), "nightly")
	<-arrived
	publish(t, broker, "one")
	first, second := r.next(), r.next()
	require.Error(t, first.Err)
	require.Error(t, second.Err)
	require.True(t, errors.Is(first.Err, host.ErrTimeout) || errors.Is(second.Err, host.ErrTimeout))
	require.Equal(t, bus.Counts{Dead: 1}, settled(t, broker))
}

// Contract §4.1: 3xx is followed when forwarding is off, 303 as a GET, 307 with the body; §4.1 last case: not followed when
// forwarding is on.
func TestRedirects(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		mode   string
		status int
		want   string // method and length of the body where the redirect led; empty: it was not followed
	}{{proxied, 303, "GET 0"}, {proxied, 301, "GET 0"}, {"", 307, "POST 1"}, {forwarded, 307, ""}} {
		t.Run(fmt.Sprint(c.mode, c.status), func(t *testing.T) {
			t.Parallel()
			broker := orders()
			led := make(chan string, 1)
			mux := http.NewServeMux()
			mux.HandleFunc("/f", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", c.status) })
			mux.HandleFunc("/elsewhere", func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				led <- fmt.Sprintf("%s %d", r.Method, min(1, len(body)))
				w.Header().Set("Content-Type", "application/json")
				io.WriteString(w, "{}")
			})
			r := start(t, map[string]string{"host.json": hostJSON(c.mode, ""), "f": queueFunction("")}, host.Options{Handler: handler(mux), Bus: broker})
			publish(t, broker, "one")
			inv := r.next()
			if c.want == "" {
				require.ErrorContains(t, inv.Err, "307")
				return
			}
			require.NoError(t, inv.Err)
			require.Equal(t, c.want, <-led)
		})
	}
}

// Contract §6.3: a batch is completed or abandoned whole, redelivered with DeliveryCount + 1, and one batch runs at a time;
// §3.5: the envelope of many + binary.
func TestBatches(t *testing.T) {
	t.Parallel()
	broker := orders(func(q *bus.Queue) { q.MaxDeliveryCount = 2 })
	publish(t, broker, "0", "1", "2", "3", "4")
	var running, most atomic.Int32
	var mu sync.Mutex
	var batches []string
	r := start(t, map[string]string{
		"host.json": hostJSON(proxied, `"extensions":{"serviceBus":{"maxMessageBatchSize":3}}`),
		"f":         queueFunction(`,"cardinality":"many","dataType":"binary"`),
	}, host.Options{Bus: broker, Handler: handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/" {
			return
		}
		most.Store(max(most.Load(), running.Add(1)))
		defer running.Add(-1)
		var s seen
		_ = json.NewDecoder(r.Body).Decode(&s)
		var text, delivered string
		var bodies [][]byte
		_ = json.Unmarshal(s.Data["msgs"], &text)
		_ = json.Unmarshal([]byte(text), &bodies)
		_ = json.Unmarshal(s.Metadata["DeliveryCountArray"], &delivered)
		mu.Lock()
		defer mu.Unlock()
		batches = append(batches, fmt.Sprintf("%s %s", bodies, delivered))
		w.Header().Set("Content-Type", "application/json")
		if len(batches) == 1 {
			w.WriteHeader(http.StatusInternalServerError)
		}
		io.WriteString(w, "{}")
	}))})
	first := r.next()
	require.Error(t, first.Err)
	require.Equal(t, 3, first.Messages)
	require.NoError(t, r.next().Err)
	require.NoError(t, r.next().Err)
	require.Equal(t, bus.Counts{}, settled(t, broker))
	mu.Lock()
	defer mu.Unlock()
	require.Equal(t, []string{"[0 1 2] [1,1,1]", "[0 1 2] [2,2,2]", "[3 4] [1,1]"}, batches)
	require.Equal(t, int32(1), most.Load())
}

// Contract §3.5: without dataType "one non-JSON body makes the whole batch invocation fail before the handler is called".
func TestManyWithoutDataType(t *testing.T) {
	t.Parallel()
	eachWay(t, func(t *testing.T, reach way) {
		broker := orders()
		publish(t, broker, `{"id":7}`, "plain text")
		got := make(chan seen, 1)
		r := start(t, map[string]string{"host.json": hostJSON("", ""), "f": queueFunction(`,"cardinality":"many"`)}, host.Options{Bus: reach(t, broker), Handler: recorder(got)})
		require.ErrorContains(t, r.next().Err, "m1")
		require.Equal(t, bus.Counts{Dead: 2}, settled(t, broker))
		require.Empty(t, got)
	})
}

// Contract §6.3: single = up to maxConcurrentCalls parallel calls, and no more.
func TestConcurrentCalls(t *testing.T) {
	t.Parallel()
	eachWay(t, func(t *testing.T, reach way) {
		broker := orders()
		publish(t, broker, "0", "1", "2", "3", "4", "5")
		arrived, release := make(chan struct{}, 6), make(chan struct{})
		r := start(t, map[string]string{
			"host.json": hostJSON("", `"extensions":{"serviceBus":{"maxConcurrentCalls":2}}`), "f": queueFunction(""),
		}, host.Options{Bus: reach(t, broker), Handler: handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/" {
				return
			}
			arrived <- struct{}{}
			<-release
			w.Header().Set("Content-Type", "application/json")
			io.WriteString(w, "{}")
		}))})
		<-arrived
		<-arrived
		require.Equal(t, bus.Counts{Active: 4, Locked: 2}, counts(t, broker))
		require.Empty(t, arrived)
		close(release)
		for range 6 {
			require.NoError(t, r.next().Err)
		}
		require.Equal(t, bus.Counts{}, settled(t, broker))
	})
}

// Contract §6.1: maxBatchWaitTime "only matters when minMessageBatchSize > 1".
func TestMinMessageBatchSize(t *testing.T) {
	t.Parallel()
	eachWay(t, func(t *testing.T, reach way) {
		broker := orders()
		got := make(chan seen, 1)
		r := start(t, map[string]string{
			"host.json": hostJSON("", `"extensions":{"serviceBus":{"minMessageBatchSize":3,"maxBatchWaitTime":"00:01:00"}}`),
			"f":         queueFunction(`,"cardinality":"many","dataType":"string"`),
		}, host.Options{Bus: reach(t, broker), Handler: recorder(got)})
		publish(t, broker, "a")
		require.Eventually(t, func() bool { return counts(t, broker).Locked == 1 }, patience, time.Millisecond)
		require.NoError(t, broker.Publish(t.Context(), "orders", []bus.Message{{ID: "x", Body: []byte("b")}, {ID: "y", Body: []byte("c")}}))
		require.Equal(t, 3, r.next().Messages)
	})
}

// Contract §6.3: autoCompleteMessages false + custom handler = nobody completes on success.
func TestAutoCompleteOff(t *testing.T) {
	t.Parallel()
	eachWay(t, func(t *testing.T, reach way) {
		broker := orders()
		got := make(chan seen, 1)
		r := start(t, map[string]string{"host.json": hostJSON("", ""), "f": queueFunction(`,"autoCompleteMessages":false`)}, host.Options{Bus: reach(t, broker), Handler: recorder(got)})
		publish(t, broker, "a")
		require.NoError(t, r.next().Err)
		require.NoError(t, r.stop())
		require.Equal(t, bus.Counts{Locked: 1}, counts(t, broker))
	})
}

// A receive error is survived, and a settlement that fails is only logged: the message comes again.
func TestBusFailures(t *testing.T) {
	t.Parallel()
	broker := orders(func(q *bus.Queue) { q.LockDuration = 50 * time.Millisecond; q.MaxDeliveryCount = 100 })
	var failures atomic.Int32
	broker.Fail(func(op, _ string) error {
		if (op == "receive" || op == "complete") && failures.Add(1) <= 2 {
			return errors.New("unplugged")
		}
		return nil
	})
	publish(t, broker, "a")
	got := make(chan seen, 100)
	r := start(t, map[string]string{"host.json": hostJSON("", ""), "f": queueFunction(`,"cardinality":"many","dataType":"binary"`)},
		host.Options{Bus: broker, Handler: recorder(got)})
	require.NoError(t, r.next().Err)
	require.Equal(t, bus.Counts{}, settled(t, broker))
	require.Contains(t, r.log.String(), `msg="receive failed" queue=orders error=unplugged`)
}

// Contract §6.1: the lock of a single message is renewed while its function runs.
func TestSingleLocksAreRenewed(t *testing.T) {
	t.Parallel()
	eachWay(t, func(t *testing.T, reach way) {
		broker := orders(func(q *bus.Queue) { q.LockDuration = 200 * time.Millisecond })
		renewed := make(chan struct{}, 100)
		broker.Fail(func(op, _ string) error {
			if op == "renew" {
				renewed <- struct{}{}
			}
			return nil
		})
		publish(t, broker, "a")
		r := start(t, map[string]string{"host.json": hostJSON("", ""), "f": queueFunction("")}, host.Options{
			Bus: reach(t, broker), Handler: working(func() {
				for range 4 {
					<-renewed
				}
			}),
		})
		require.NoError(t, r.next().Err)
		require.Equal(t, bus.Counts{}, settled(t, broker))
	})
}

// A renewal that fails for a reason that passes is tried again while the lock holds.
func TestRenewalIsTriedAgain(t *testing.T) {
	t.Parallel()
	broker := orders(func(q *bus.Queue) { q.LockDuration = 2 * time.Second })
	var tries atomic.Int32
	renewed := make(chan struct{})
	broker.Fail(func(op, _ string) error {
		switch {
		case op != "renew":
		case tries.Add(1) == 1:
			return fault.BusUnavailable.Errorf("unplugged")
		case tries.Load() == 2:
			close(renewed)
		}
		return nil
	})
	publish(t, broker, "a")
	r := start(t, map[string]string{"host.json": hostJSON("", ""), "f": queueFunction("")}, host.Options{
		Bus: broker, Handler: working(func() { <-renewed }),
	})
	require.NoError(t, r.next().Err)
	require.Equal(t, bus.Counts{}, settled(t, broker))
}

// working is a handler whose invocations last as long as work does.
func working(work func()) host.Handler {
	answer := replying(http.StatusOK, "application/json", "{}")
	return handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/" {
			work()
		}
		answer(w, r)
	}))
}

// Contract §2.5: at the stop triggers end, what runs may end within the drain time and is settled; what does not is cut off
// and keeps its lock.
func TestDrain(t *testing.T) {
	t.Parallel()
	for _, finishes := range []bool{true, false} {
		t.Run(fmt.Sprint(finishes), func(t *testing.T) {
			t.Parallel()
			broker := orders()
			arrived, release := make(chan struct{}, 1), make(chan struct{})
			drain := patience
			if !finishes {
				drain = 50 * time.Millisecond
			}
			r := start(t, map[string]string{"host.json": hostJSON("", ""), "f": queueFunction("")}, host.Options{
				Bus: broker, Drain: drain, Handler: handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.URL.Path != "/" {
						_, _ = io.Copy(io.Discard, r.Body)
						arrived <- struct{}{}
						select {
						case <-release:
						case <-r.Context().Done():
						}
					}
					w.Header().Set("Content-Type", "application/json")
					io.WriteString(w, "{}")
				})),
			})
			publish(t, broker, "a")
			<-arrived
			r.cancel()
			if finishes {
				require.Eventually(t, func() bool {
					_, err := http.Get(r.url + "/") //nolint:bodyclose // refused in the end
					return err != nil
				}, patience, time.Millisecond, "no new requests")
				close(release)
			}
			require.NoError(t, r.stop())
			inv := r.next()
			if finishes {
				require.NoError(t, inv.Err)
				require.Equal(t, bus.Counts{}, counts(t, broker))
				return
			}
			require.Error(t, inv.Err)
			require.Equal(t, bus.Counts{Locked: 1}, counts(t, broker))
			require.Contains(t, r.log.String(), "cut off")
		})
	}
}

// Contract §2.2: invocations wait while the handler starts; §3.4: one message, string by default, its body leaking.
func TestInvocationsWaitForTheHandler(t *testing.T) {
	t.Parallel()
	broker := orders()
	publish(t, broker, `{"id":7}`)
	open, got := make(chan struct{}), make(chan seen, 1)
	r := launch(t, map[string]string{"host.json": hostJSON("", ""), "f": queueFunction("")}, host.Options{
		Bus: broker, Handler: host.InProcess(func(ctx context.Context, getenv func(string) string) error {
			<-open
			return serving(recording(got))(ctx, getenv)
		}),
	})
	require.Eventually(t, func() bool { return counts(t, broker).Locked == 1 }, patience, time.Millisecond)
	select {
	case <-r.host.Ready():
		require.Fail(t, "ready before the handler")
	default:
	}
	close(open)
	require.NoError(t, r.next().Err)
	s := <-got
	require.Equal(t, `"\"{\\\"id\\\":7}\""`, string(s.Data["msgs"]))
	require.Equal(t, `"\"7\""`, string(s.Metadata["id"]))
	require.Contains(t, string(s.Metadata["Client"]), `"FullyQualifiedNamespace":"localhost"`)
	require.True(t, strings.HasPrefix(s.request.RequestURI, "/f"))
	<-r.host.Ready()
}
