package stack_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"liveops/core/store"
	"liveops/core/store/storetest"
	"liveops/local/stack"
)

// BenchmarkReads measures reads of a window of 100,000 entries over HTTP, unsigned, through the whole system and its Functions host: the
// top 100 and a player's 11 neighbours, of a board whose answers are always found anew and of one whose answers may be a second
// old. Beside them, in the same run and from as many clients: a bare net/http server that answers the same bytes, and the same rows
// read from a sorted set with ZREVRANGE.
func BenchmarkReads(b *testing.B) {
	const players = 100_000
	db, url := storetest.BestURLs(b)
	system, err := stack.Start(b.Context(), stack.Options{
		DBURL: db, RedisURL: url, Listen: "127.0.0.1:0", Data: b.TempDir(), Catalog: filepath.Join("testdata", "reads.yaml"),
		Log: slog.New(slog.DiscardHandler),
	})
	require.NoError(b, err)
	defer func() { require.NoError(b, system.Stop()) }()
	fill(b, system.DBURL, players)
	if url == "" {
		url = "redis://" + system.Redis.Addr()
	}
	rdb := bareSet(b, url, players)
	for _, board := range []string{"fresh", "aged"} { // they were complete when they were empty
		keys := rdb.Keys(b.Context(), "rank:{"+board+":*").Val()
		require.NotEmpty(b, keys)
		require.NoError(b, rdb.Del(b.Context(), keys...).Err())
	}

	var turn atomic.Int64
	someone := func() int64 { return turn.Add(7919) % players }
	for _, read := range []struct {
		name string
		path func() string
		rows int64
	}{
		{"top-100", func() string { return "?limit=100" }, 100},
		{"around", func() string { return fmt.Sprintf("/players/p%06d/around?limit=11", someone()) }, 11},
	} {
		body := get(b, system.URL+"/v1/leaderboards/fresh"+read.path())
		require.EqualValues(b, read.rows, bytes.Count(body, []byte(`"rank":`)))
		floor := clients(b, "bare/"+read.name, fetch(answering(b, body), func() string { return "/" }))
		raw := clients(b, "zrevrange/"+read.name, func(*http.Client) error {
			from := int64(0)
			if read.rows < 100 {
				from = someone() % (players - read.rows)
			}
			return rdb.ZRevRangeWithScores(context.Background(), "bare", from, from+read.rows-1).Err()
		})
		for _, board := range []string{"fresh", "aged"} {
			b.Run("liveops/"+board+"/"+read.name, func(b *testing.B) {
				rate := parallel(b, fetch(system.URL+"/v1/leaderboards/"+board, read.path))
				b.ReportMetric(rate/floor, "of-bare")
				b.ReportMetric(rate/raw, "of-zrevrange")
			})
		}
	}
}

// fill writes entries of both boards straight into the database, as the writer would have.
func fill(b *testing.B, url string, players int) {
	db, err := store.Open(url)
	require.NoError(b, err)
	defer db.Close()
	table := store.Table{Name: "entry", Columns: []string{
		"board", "window_id", "player_id", "score", "total", "standing", "achieved_at", "seq", "event_id", "version", "metadata",
	}}
	now := time.Now().UnixMilli()
	for _, board := range []string{"fresh", "aged"} {
		rows := make([][]any, players)
		for i := range rows {
			rows[i] = []any{board, "all_time", fmt.Sprintf("p%06d", i), i, i, -i, now, 0, fmt.Sprintf("e%06d", i), 1, ""}
		}
		for some := range slices.Chunk(rows, 20_000) {
			require.NoError(b, db.Tx(b.Context(), func(tx *store.Tx) error { return table.Insert(b.Context(), tx.Queries, some) }))
		}
	}
}

// bareSet is a client of a Redis that holds the same players in a sorted set.
func bareSet(b *testing.B, url string, players int) *redis.Client {
	options, err := redis.ParseURL(url)
	require.NoError(b, err)
	rdb := redis.NewClient(options)
	b.Cleanup(func() { _ = rdb.Close() })
	_, err = rdb.Pipelined(b.Context(), func(p redis.Pipeliner) error {
		for i := range players {
			p.ZAdd(b.Context(), "bare", redis.Z{Score: float64(i), Member: fmt.Sprintf("p%06d", i)})
		}
		return nil
	})
	require.NoError(b, err)
	return rdb
}

// answering is a net/http server that answers everything with one body.
func answering(b *testing.B, body []byte) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(body)
	})}
	go func() { _ = server.Serve(listener) }()
	b.Cleanup(func() { _ = server.Close() })
	return "http://" + listener.Addr().String()
}

// get reads one answer, which must be a good one.
func get(b *testing.B, url string) []byte {
	response, err := http.Get(url)
	require.NoError(b, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(b, err)
	require.Equal(b, http.StatusOK, response.StatusCode, "%s", body)
	return body
}

// fetch makes one read over HTTP.
func fetch(url string, path func() string) func(*http.Client) error {
	return func(client *http.Client) error {
		response, err := client.Get(url + path())
		if err != nil {
			return err
		}
		_, _ = io.Copy(io.Discard, response.Body)
		if _ = response.Body.Close(); response.StatusCode != http.StatusOK {
			return fmt.Errorf("answered %s", response.Status)
		}
		return nil
	}
}

// clients measures one kind of read and gives its rate.
func clients(b *testing.B, name string, read func(*http.Client) error) (rate float64) {
	b.Run(name, func(b *testing.B) { rate = parallel(b, read) })
	return rate
}

// parallel reads b.N times from 16 clients at a time, and gives the reads a second.
func parallel(b *testing.B, read func(*http.Client) error) float64 {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	defer client.CloseIdleConnections()
	var failed atomic.Pointer[error]
	b.SetParallelism(8)
	started := time.Now()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := read(client); err != nil {
				failed.Store(&err)
			}
		}
	})
	rate := float64(b.N) / time.Since(started).Seconds()
	if err := failed.Load(); err != nil {
		require.NoError(b, *err)
	}
	b.ReportMetric(rate, "reads/s")
	b.ReportMetric(0, "ns/op")
	return rate
}
