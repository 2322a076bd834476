package stack_test

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"liveops/core/signing"
	"liveops/core/store/storetest"
	"liveops/local/stack"
)

// BenchmarkAccept measures events taken in by the whole system, singly and in batches of 200, beside a bare net/http server
// that only reads the body, on real servers where they are found. Both get the same signed requests from the same clients in the same run, so that the ratio
// "of-bare" means something on any machine.
func BenchmarkAccept(b *testing.B) {
	db, redis := storetest.BestURLs(b)
	system, err := stack.Start(b.Context(), stack.Options{
		DBURL: db, RedisURL: redis,
		Listen: "127.0.0.1:0", Data: b.TempDir(), Catalog: filepath.Join("..", "..", "examples", "chess", "catalog.yaml"),
		Log: slog.New(slog.DiscardHandler),
	})
	require.NoError(b, err)
	defer func() { require.NoError(b, system.Stop()) }()
	bare := bareServer(b)
	key := system.Secrets.Key(signing.Server)
	floor := map[int]float64{}
	for _, size := range []int{1, 200} {
		for _, server := range []struct{ name, url string }{{"bare", bare}, {"liveops", system.URL}} {
			b.Run(fmt.Sprintf("%s/%d", server.name, size), func(b *testing.B) {
				rate := accept(b, server.url, key, size)
				b.ReportMetric(rate, "events/s")
				b.ReportMetric(0, "ns/op")
				if server.name == "bare" {
					floor[size] = rate
				} else {
					b.ReportMetric(rate/floor[size], "of-bare")
				}
			})
			// What is behind the queue must not slow the next measurement.
			require.Eventually(b, system.Idle, 10*time.Minute, time.Millisecond)
		}
	}
}

// bareServer reads bodies and says 202.
func bareServer(b *testing.B) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusAccepted)
	})}
	go func() { _ = server.Serve(listener) }()
	b.Cleanup(func() { _ = server.Close() })
	return "http://" + listener.Addr().String()
}

var eventNumber atomic.Int64

// accept posts b.N requests of size events each from 16 clients at a time, and gives the events a second.
func accept(b *testing.B, url string, key signing.Key, size int) float64 {
	path := "/v1/events"
	if size > 1 {
		path += "/batch"
	}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	defer client.CloseIdleConnections()
	var failed atomic.Int64
	b.SetParallelism(8)
	started := time.Now()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if !take(client, url+path, key, benchBody(size)) {
				failed.Add(1)
			}
		}
	})
	took := time.Since(started)
	require.Zero(b, failed.Load(), "requests that were not accepted")
	return float64(b.N*size) / took.Seconds()
}

// take says whether a signed request was accepted.
func take(client *http.Client, url string, key signing.Key, body []byte) bool {
	request, err := http.NewRequest(http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return false
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Idempotency-Key", signing.NewNonce())
	if err := signing.SignHTTP(request, key, body, time.Now(), signing.NewNonce()); err != nil {
		return false
	}
	response, err := client.Do(request)
	if err != nil {
		return false
	}
	_, _ = io.Copy(io.Discard, response.Body)
	_ = response.Body.Close()
	return response.StatusCode == http.StatusAccepted
}

// benchBody is a request of size new events, of 100 players in turn.
func benchBody(size int) []byte {
	events := make([]string, size)
	for i := range events {
		n := eventNumber.Add(1)
		events[i] = xpEvent(fmt.Sprintf("bench-%d", n), fmt.Sprintf("player-%d", n%100), 10, time.Now())
	}
	if size == 1 {
		return []byte(events[0])
	}
	return []byte(`{"events":[` + strings.Join(events, ",") + `]}`)
}
