package stack_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus/admin"
	"github.com/stretchr/testify/require"

	"liveops/core/bus"
	adapter "liveops/core/bus/servicebus"
	"liveops/core/fault"
	"liveops/core/signing"
	"liveops/local/servicebus"
	"liveops/local/stack"
)

func options(t *testing.T) stack.Options {
	t.Helper()
	return stack.Options{
		Listen: "127.0.0.1:0", Data: t.TempDir(), Catalog: filepath.Join("..", "..", "examples", "chess", "catalog.yaml"),
		Bus: stack.ServiceBus, Log: slog.New(slog.DiscardHandler),
	}
}

// scaler reads the management endpoint as KEDA does, which trusts what it is told to.
func scaler(t *testing.T, s *stack.Stack) *admin.Client {
	t.Helper()
	trusted, err := os.ReadFile(s.Namespace.Certificate)
	require.NoError(t, err)
	pool := x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM(trusted))
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	t.Cleanup(transport.CloseIdleConnections)
	address := strings.Replace(s.Namespace.AdminURL, "https://127.0.0.1", "localhost", 1)
	client, err := admin.NewClientFromConnectionString(s.Namespace.Endpoint.ConnectionString(address), &admin.ClientOptions{
		ClientOptions: azcore.ClientOptions{Transport: &http.Client{Transport: transport}},
	})
	require.NoError(t, err)
	return client
}

// TestScaling watches a queue as KEDA does while nobody gets its messages, and when somebody does again.
func TestScaling(t *testing.T) {
	t.Parallel()
	o := options(t)
	o.BusAdmin = "127.0.0.1:0"
	running, err := stack.Start(t.Context(), o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, running.Stop()) })
	s := &system{Stack: running, clock: time.Now}
	client := scaler(t, running)
	waiting := func() int32 {
		state, err := client.GetQueueRuntimeProperties(t.Context(), "events", nil)
		require.NoError(t, err)
		require.NotNil(t, state)
		return state.ActiveMessageCount
	}
	require.Zero(t, waiting())

	s.Namespace.Endpoint.Fail(func(o servicebus.Operation) servicebus.Fault {
		if o.Name == servicebus.OpReceive && o.Queue == "events" {
			return servicebus.Fault{Kind: servicebus.Detach}
		}
		return servicebus.Fault{}
	})
	for i := range 3 {
		var events []string
		for j := range 20 {
			events = append(events, xpEvent(fmt.Sprintf("x-%d-%d", i, j), "ada", 10, time.Now()))
		}
		status, _ := s.post(t, events...)
		require.Equal(t, http.StatusAccepted, status)
		require.EqualValues(t, 20*(i+1), waiting())
	}
	s.Namespace.Endpoint.Fail(nil)
	require.Eventually(t, func() bool { return waiting() == 0 }, time.Minute, 5*time.Millisecond)
	s.quiet(t)
	require.EqualValues(t, 600, s.get(t, "/v1/players/ada", http.StatusOK)["xp"])
	s.noneDead(t)
}

// TestEndpointFails lets every kind of fault meet every operation that the system asks of its queues, while clients send: what was
// accepted is in effect once, and nothing dies.
func TestEndpointFails(t *testing.T) {
	t.Parallel()
	kinds := []servicebus.FaultKind{servicebus.Refuse, servicebus.Detach, servicebus.Drop, servicebus.DropAfter}
	operations := []string{
		servicebus.OpConnect, servicebus.OpAuthorize, servicebus.OpAttach, servicebus.OpSend, servicebus.OpReceive, servicebus.OpComplete,
	}
	at, started := time.Date(2026, 11, 20, 20, 0, 0, 0, time.UTC), time.Now()
	var skew atomic.Int64
	s := startClock(t, backend{bus: stack.ServiceBus, settings: map[string]string{"BATCH_HOLD": "10ms"}}, "chess", func() time.Time {
		return at.Add(time.Since(started)).Add(time.Duration(skew.Load()))
	})
	later := func() { // what was given to a connection that was cut stays locked for a minute
		skew.Add(int64(time.Second))
		s.Bus.Wake()
	}
	sent := 0
	for _, kind := range kinds {
		for _, operation := range operations {
			var left atomic.Int32
			left.Store(2)
			s.Namespace.Endpoint.Fail(func(o servicebus.Operation) servicebus.Fault {
				if o.Name != operation || left.Add(-1) < 0 {
					return servicebus.Fault{}
				}
				return servicebus.Fault{Kind: kind}
			})
			if operation == servicebus.OpConnect || operation == servicebus.OpAuthorize || operation == servicebus.OpAttach {
				s.Namespace.Endpoint.Cut()
			}
			body, key := []byte(xpEvent(fmt.Sprintf("x-%d", sent), "ada", 10, at)), signing.NewNonce()
			for try, status := 0, 0; status != http.StatusAccepted; try++ {
				require.Less(t, try, 100, "%d %s: %d", kind, operation, status)
				response, _ := s.send(t, signing.Server, http.MethodPost, "/v1/events", body, func(r *http.Request) {
					r.Header.Set("Idempotency-Key", key)
					require.NoError(t, signing.SignHTTP(r, s.Secrets.Key(signing.Server), body, s.clock(), signing.NewNonce()))
				})
				status = response.StatusCode
			}
			sent++
			require.Eventually(t, func() bool {
				later()
				return left.Load() < 0 && s.Idle()
			}, time.Minute, 10*time.Millisecond, "%d %s: %d faults left", kind, operation, left.Load())
		}
	}
	require.EqualValues(t, sent*10, s.get(t, "/v1/players/ada", http.StatusOK)["xp"])
	s.noneDead(t)
}

// TestStrangersOfTheNamespace: one key opens the endpoint, and no other.
func TestStrangersOfTheNamespace(t *testing.T) {
	t.Parallel()
	running, err := stack.Start(t.Context(), options(t))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, running.Stop()) })
	for connection, want := range map[string]error{
		running.Namespace.ConnectionString: nil,
		strings.Replace(running.Namespace.ConnectionString, running.Secrets.ServiceBus, "b3RoZXI=", 1): fault.Unavailable,
	} {
		b, err := adapter.Open(adapter.Config{ConnectionString: connection})
		require.NoError(t, err)
		t.Cleanup(func() { _ = b.Close(context.Background()) })
		require.ErrorIs(t, b.Publish(t.Context(), "progression", []bus.Message{{ID: "m", Body: []byte("{}")}}), want)
	}
	require.Empty(t, running.Namespace.AdminURL, "it is off unless asked for")
}

func TestNamespaceThatCannotBe(t *testing.T) {
	t.Parallel()
	taken := start(t, backend{}, "chess", time.Now())
	address := strings.TrimPrefix(taken.URL, "http://")
	for name, change := range map[string]func(o *stack.Options){
		"no such bus":             func(o *stack.Options) { o.Bus = "pigeons" },
		"the endpoint's port":     func(o *stack.Options) { o.BusListen = address },
		"the management's port":   func(o *stack.Options) { o.BusAdmin = address },
		"no port":                 func(o *stack.Options) { o.BusAdmin = "127.0.0.1" },
		"no file for certificate": func(o *stack.Options) { o.BusAdmin = "127.0.0.1:0"; makeDir(t, o.Data, "servicebus.pem") },
	} {
		o := options(t)
		change(&o)
		_, err := stack.Start(t.Context(), o)
		require.Error(t, err, name)
	}
}

func makeDir(t *testing.T, parts ...string) {
	t.Helper()
	require.NoError(t, os.Mkdir(filepath.Join(parts...), 0o700))
}

// TestStopLeavesNothing runs alone, before the parallel ones, and looks for what is left when a system has ended.
func TestStopLeavesNothing(t *testing.T) {
	o := options(t)
	o.BusAdmin = "127.0.0.1:0"
	for range 2 {
		running, err := stack.Start(t.Context(), o)
		require.NoError(t, err)
		s := &system{Stack: running, clock: time.Now}
		_, err = scaler(t, running).GetQueue(t.Context(), "events", nil)
		require.NoError(t, err)
		s.post(t, xpEvent("x", "ada", 10, time.Now()))
		s.quiet(t)
		require.NoError(t, running.Stop())
	}
	http.DefaultTransport.(*http.Transport).CloseIdleConnections() //nolint:forcetypeassert // it is one
	left := regexp.MustCompile(`liveops/(core|handler)/|liveops/local/(host|servicebus|stack)\.|go-amqp|azservicebus|miniredis|database/sql|net/http`)
	require.Eventually(t, func() bool { return !left.MatchString(stacks{}.String()) }, 20*time.Second, 10*time.Millisecond, "%s", stacks{})
}

// stacks are those of all goroutines at the time they are printed.
type stacks struct{}

func (stacks) String() string {
	buffer := make([]byte, 4<<20)
	return string(buffer[:runtime.Stack(buffer, true)])
}
