package stack_test

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"

	"liveops/core/signing"
	"liveops/core/store/storetest"
	"liveops/local/stack"
)

// receiver takes spans in over OTLP as Alloy does in production.
type receiver struct {
	url string

	mu       sync.Mutex
	spans    []*otlp.Span
	resource map[string]string
	headers  []http.Header
}

func newReceiver(t testing.TB) *receiver {
	t.Helper()
	r := &receiver{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		body, err := io.ReadAll(request.Body)
		var export collector.ExportTraceServiceRequest
		if err != nil || request.URL.Path != "/v1/traces" || proto.Unmarshal(body, &export) != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.headers = append(r.headers, request.Header)
		for _, of := range export.GetResourceSpans() {
			r.resource = map[string]string{}
			for _, attribute := range of.GetResource().GetAttributes() {
				r.resource[attribute.GetKey()] = attribute.GetValue().GetStringValue()
			}
			for _, scope := range of.GetScopeSpans() {
				r.spans = append(r.spans, scope.GetSpans()...)
			}
		}
	}))
	t.Cleanup(server.Close)
	r.url = server.URL
	return r
}

// settings has everything that begins here traced.
func (r *receiver) settings() map[string]string {
	return map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": r.url, "OTEL_TRACES_SAMPLER_ARG": "1", "OTEL_SERVICE_NAME": "under-test"}
}

// tree writes what lies below a span, one line each, indented, in order of their beginnings. Spans of one name side by side are one.
func tree(spans []*otlp.Span, parent, indent string) (lines []string) {
	for _, span := range spans {
		if hex.EncodeToString(span.GetParentSpanId()) != parent {
			continue
		}
		if line := indent + span.GetName(); len(lines) == 0 || lines[len(lines)-1] != line {
			lines = append(lines, line)
		}
		lines = append(lines, tree(spans, hex.EncodeToString(span.GetSpanId()), indent+"  ")...)
	}
	return lines
}

// TestOneTrace sends one event and finds its way in one trace: from the request through both queues to SQL and Redis.
func TestOneTrace(t *testing.T) {
	t.Parallel()
	eachBus(t, func(t *testing.T, b backend) {
		spans := newReceiver(t)
		b.settings = spans.settings()
		now := time.Date(2026, 11, 20, 20, 0, 0, 0, time.UTC)
		s := start(t, b, "chess", now)
		const theirs = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
		response, _ := s.send(t, signing.Server, http.MethodPost, "/v1/events", []byte(scoreEvent("e-secret", "ada-secret", "points", 1, now)), func(r *http.Request) {
			r.Header.Set("Traceparent", theirs)
			r.Header.Set("Baggage", "player=ada-secret")
		})
		require.Equal(t, http.StatusAccepted, response.StatusCode)
		s.quiet(t)
		require.NoError(t, s.Stop()) // which sends what is left

		var ours []*otlp.Span
		for _, span := range spans.spans {
			if hex.EncodeToString(span.GetTraceId()) == theirs[3:35] {
				ours = append(ours, span)
			}
			require.NotContains(t, span.String(), "secret", "no span says for whom")
		}
		slices.SortStableFunc(ours, func(a, b *otlp.Span) int { return int(a.GetStartTimeUnixNano()) - int(b.GetStartTimeUnixNano()) })
		way := tree(ours, theirs[36:52], "")
		at := 0
		for _, step := range []string{
			"POST /v1/events",
			"  publish events",
			"    fairness",
			"      publish progression",
			"        progression",
			"          INSERT ledger",
			"          COMMIT",
			"          PIPELINE",
		} {
			found := slices.Index(way[at:], step)
			require.GreaterOrEqual(t, found, 0, "%q after %q in\n%s", step, way[:at], strings.Join(way, "\n"))
			at += found + 1
		}
		require.Len(t, slices.DeleteFunc(slices.Clone(way), func(line string) bool { return strings.HasPrefix(line, " ") }), 1, "one trace, one root: %v", way)
		require.Equal(t, "under-test", spans.resource["service.name"])
		for _, header := range spans.headers {
			require.Empty(t, header.Get("Baggage"))
		}
		for _, span := range ours {
			require.NotEqual(t, otlp.Status_STATUS_CODE_ERROR, span.GetStatus().GetCode(), span.String())
		}
	})
}

// TestTracesOfABatch sends events in many requests at once: each trace reaches the ranks, by itself or by the batch it is linked to.
func TestTracesOfABatch(t *testing.T) {
	t.Parallel()
	spans := newReceiver(t)
	b := realBackend(t)
	b.settings = spans.settings()
	now := time.Date(2026, 11, 20, 20, 0, 0, 0, time.UTC)
	s := start(t, b, "chess", now)
	const requests = 40
	var group sync.WaitGroup
	for i := range requests {
		group.Go(func() {
			_, _ = s.send(t, signing.Server, http.MethodPost, "/v1/events", []byte(xpEvent(fmt.Sprint("e", i), fmt.Sprint("p", i), 1, now)), func(r *http.Request) {
				r.Header.Set("Traceparent", fmt.Sprintf("00-%032x-%016x-01", i+1, i+1))
			})
		})
	}
	group.Wait()
	s.quiet(t)
	require.NoError(t, s.Stop())

	reached, linked := map[string]bool{}, map[string]bool{}
	for _, span := range spans.spans {
		if span.GetName() == "progression" || span.GetName() == "progression message" {
			reached[hex.EncodeToString(span.GetTraceId())] = true
		}
		if span.GetName() == "progression" {
			for _, link := range span.GetLinks() {
				linked[hex.EncodeToString(link.GetTraceId())] = true
			}
		}
	}
	for i := range requests {
		id := fmt.Sprintf("%032x", i+1)
		require.True(t, reached[id], "trace %s ends on its way", id)
		require.True(t, linked[id], "no batch is linked to trace %s", id)
	}
}

// TestALostReceiver has spans go nowhere: nothing else notices.
func TestALostReceiver(t *testing.T) {
	t.Parallel()
	spans := newReceiver(t)
	b := realBackend(t)
	b.settings = spans.settings()
	b.settings["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://127.0.0.1:1"
	now := time.Date(2026, 11, 20, 20, 0, 0, 0, time.UTC)
	s := start(t, b, "chess", now)
	status, results := s.post(t, xpEvent("e", "ada", 1, now))
	require.Equal(t, http.StatusAccepted, status)
	require.Equal(t, []string{"accepted"}, results)
	s.quiet(t)
}

// BenchmarkTracing measures events from request to rank with metrics only, and with 1 % and all of the traces kept and sent to a receiver
// in this process. The three systems take turns, so that whatever else the machine does falls on all of them.
func BenchmarkTracing(b *testing.B) {
	const rounds, requests, size = 6, 300, 50 // a multiple of the variants, so that each is first as often
	variants := []struct{ name, share string }{{"metrics", ""}, {"traces-1%", "0.01"}, {"traces-100%", "1"}}
	took := make([]time.Duration, len(variants))
	systems := make([]*stack.Stack, len(variants))
	for i, v := range variants {
		db, redis := storetest.BestURLs(b)
		settings := map[string]string{}
		if v.share != "" {
			settings = newReceiver(b).settings()
			settings["OTEL_TRACES_SAMPLER_ARG"] = v.share
		}
		system, err := stack.Start(b.Context(), stack.Options{
			DBURL: db, RedisURL: redis, Settings: settings,
			Listen: "127.0.0.1:0", Data: b.TempDir(), Catalog: filepath.Join("..", "..", "examples", "chess", "catalog.yaml"),
			Log: slog.New(slog.DiscardHandler),
		})
		require.NoError(b, err)
		defer func() { require.NoError(b, system.Stop()) }()
		systems[i] = system
		load(b, system, requests, size) // connections, plans, players
		require.Eventually(b, system.Idle, time.Minute, time.Millisecond)
	}
	b.ResetTimer()
	for range b.N {
		for round := range rounds {
			for turn := range variants {
				i := (turn + round) % len(variants)
				began := time.Now()
				load(b, systems[i], requests, size)
				require.Eventually(b, systems[i].Idle, time.Minute, time.Millisecond)
				took[i] += time.Since(began)
			}
		}
	}
	for i, v := range variants {
		b.ReportMetric(float64(b.N*rounds*requests*size)/took[i].Seconds(), v.name+"-events/s")
		b.ReportMetric(took[0].Seconds()/took[i].Seconds(), v.name+"-of-metrics")
	}
	b.ReportMetric(0, "ns/op")
}

// load sends requests of size events each from 8 clients.
func load(b *testing.B, system *stack.Stack, requests, size int) {
	b.Helper()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 8}}
	defer client.CloseIdleConnections()
	key := system.Secrets.Key(signing.Server)
	var group errgroup.Group
	group.SetLimit(8)
	for range requests {
		group.Go(func() error {
			if !take(client, system.URL+"/v1/events/batch", key, benchBody(size)) {
				return errors.New("a request was not accepted")
			}
			return nil
		})
	}
	require.NoError(b, group.Wait())
}
