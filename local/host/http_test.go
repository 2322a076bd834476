package host_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"liveops/local/host"
)

// echo tells what a forwarded or proxied request looked like on arrival.
type echo struct {
	Method, URI, Host, Body string
	Header                  http.Header
	Chunked                 bool
}

func echoing() host.Handler {
	return handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Answer", "yes")
		w.Header().Set("Location", "/elsewhere")
		if r.URL.Path != "/" {
			w.WriteHeader(http.StatusTemporaryRedirect)
		}
		_ = json.NewEncoder(w).Encode(echo{r.Method, r.RequestURI, r.Host, string(body), r.Header, len(r.TransferEncoding) > 0})
	}))
}

func (r *rig) echo(method, path string, body io.Reader, headers ...string) (echo, host.Invocation) {
	r.t.Helper()
	got := r.do(method, path, body, headers...)
	require.Equal(r.t, 307, got.status, "a redirect is passed through, not followed")
	require.Equal(r.t, "yes", got.header.Get("X-Answer"))
	var e echo
	require.NoError(r.t, json.Unmarshal([]byte(got.body), &e))
	inv := r.next()
	require.NoError(r.t, inv.Err)
	require.Equal(r.t, 307, inv.Status)
	return e, inv
}

// unsized hides a reader's length, which makes the client send it chunked.
type unsized struct{ io.Reader }

// Contract §5.2: path and raw query preserved, body streamed, Host replaced, X-Forwarded-* set, three headers overwritten, no
// User-Agent change, hop-by-hop headers stripped.
func TestProxy(t *testing.T) {
	t.Parallel()
	r := start(t, map[string]string{"host.json": hostJSON(proxied+","+forwarded, ""), "events": httpFunction("events/{*rest}")},
		host.Options{Handler: echoing()})
	e, inv := r.echo("POST", "/api/events/a%2Fb/c?t=a&t=b;c&q=%20x+y&bare", unsized{strings.NewReader(`{"n":1}`)},
		"Host", "api.example.test", "Content-Encoding", "gzip", "User-Agent", "client/1", "Te", "trailers", "X-Hop", "1", "Connection", "X-Hop",
		"X-Azure-Functions-InvocationId", "evil", "X-Ms-Invocation-Id", "evil", "X-Forwarded-For", "6.6.6.6", "Content-Type", "application/json")
	require.Equal(t, "proxy", inv.Mode)
	require.Equal(t, "POST", e.Method)
	require.Equal(t, "/api/events/a%2Fb/c?t=a&t=b;c&q=%20x+y&bare", e.URI)
	require.Equal(t, `{"n":1}`, e.Body)
	require.True(t, e.Chunked)
	require.True(t, strings.HasPrefix(e.Host, "127.0.0.1:"), e.Host)
	for name, want := range map[string][]string{
		"X-Forwarded-For": {"127.0.0.1"}, "X-Forwarded-Host": {"api.example.test"}, "X-Forwarded-Proto": {"http"},
		"X-Azure-Functions-Hostversion": {host.Version}, "X-Azure-Functions-Invocationid": {inv.ID}, "X-Ms-Invocation-Id": {inv.ID},
		"User-Agent": {"client/1"}, "Content-Encoding": {"gzip"}, "Content-Type": {"application/json"},
	} {
		require.Equal(t, want, e.Header[name], name)
	}
	require.NotContains(t, e.Header, "X-Hop")
	require.NotContains(t, e.Header, "Connection")
}

// Contract §5.2: a request waits for a handler that restarts ("covered for ~2 s"), and its body survives the attempts.
func TestProxyWaitsForTheHandler(t *testing.T) {
	t.Parallel()
	var lives atomic.Int32
	r := start(t, map[string]string{"host.json": hostJSON(proxied, ""), "f": httpFunction("f")}, host.Options{
		Handler: host.InProcess(func(ctx context.Context, getenv func(string) string) error {
			lives.Add(1)
			ctx, cancel := context.WithCancelCause(ctx)
			defer cancel(nil)
			listener, err := net.Listen("tcp", "127.0.0.1:"+getenv("FUNCTIONS_CUSTOMHANDLER_PORT"))
			if err != nil {
				return err
			}
			var server *http.Server
			server = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				if string(body) == "die" {
					server.Close()
					cancel(host.ExitCode(200))
				}
				_, _ = w.Write(body)
			})}
			context.AfterFunc(ctx, func() { server.Close() })
			server.Serve(listener)
			<-ctx.Done()
			return context.Cause(ctx)
		}),
	})
	require.Equal(t, "hello", r.do("POST", "/api/f", strings.NewReader("hello")).body)
	for range 3 {
		response, err := http.Post(r.url+"/api/f", "text/plain", strings.NewReader("die"))
		if err == nil {
			response.Body.Close()
		}
		require.Equal(t, "again", r.do("POST", "/api/f", strings.NewReader("again")).body)
	}
	require.Equal(t, int32(4), lives.Load())
}

// Contract §5.2: "Client disconnect: logged as information", no failure of the function.
func TestProxyClientLeaves(t *testing.T) {
	t.Parallel()
	arrived := make(chan struct{})
	r := start(t, map[string]string{"host.json": hostJSON(proxied, ""), "f": httpFunction("f")}, host.Options{
		Handler: handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/" {
				close(arrived)
				<-r.Context().Done()
			}
		})),
	})
	ctx, cancel := context.WithCancel(t.Context())
	request, err := http.NewRequestWithContext(ctx, "GET", r.url+"/api/f", nil)
	require.NoError(t, err)
	go func() {
		<-arrived
		cancel()
	}()
	_, err = http.DefaultClient.Do(request) //nolint:bodyclose // there is no response
	require.ErrorIs(t, err, context.Canceled)
	require.NoError(t, r.next().Err)
}

// Contract §5.1, aspect by aspect.
func TestForward(t *testing.T) {
	t.Parallel()
	r := start(t, map[string]string{"host.json": hostJSON(forwarded, ""), "events": httpFunction("events/{*rest}")}, host.Options{Handler: echoing()})
	e, inv := r.echo("PUT", "/api/events/a%2Fb?t=a&T=b&q=%20x+y&bare", strings.NewReader(`{"n":1}`),
		"Host", "api.example.test", "Content-Encoding", "gzip", "Content-Language", "en", "Expires", "0", "User-Agent", "client/1", "X-Two", "1",
		"X-Two", "2", "X-Azure-Functions-InvocationId", "evil", "Content-Type", "application/json")
	require.Equal(t, "forward", inv.Mode)
	require.Equal(t, "PUT", e.Method)
	require.Equal(t, "/api/events/a%2Fb?t=a%2Cb&q=%20x%20y&bare=", e.URI, "the query is rebuilt")
	require.Equal(t, "api.example.test", e.Host, "the client's Host")
	require.Equal(t, `{"n":1}`, e.Body)
	for name, want := range map[string][]string{
		"Content-Type": {"application/json"}, "X-Two": {"1, 2"}, "User-Agent": {"client/1 Azure-Functions-Host/" + host.Version},
		"X-Azure-Functions-Invocationid": {"evil, " + inv.ID}, "X-Azure-Functions-Hostversion": {host.Version},
	} {
		require.Equal(t, want, e.Header[name], name)
	}
	for _, name := range []string{"Content-Encoding", "Content-Language", "Expires", "X-Forwarded-For", "X-Ms-Invocation-Id"} {
		require.NotContains(t, e.Header, name)
	}

	e, _ = r.echo("POST", "/api/events", unsized{strings.NewReader("lost")}, "Content-Type", "text/plain")
	require.Empty(t, e.Body, "chunked request bodies are lost")
	require.False(t, e.Chunked)
	require.NotContains(t, e.Header, "Content-Type")
}

// Contract §5.1: request body ≤ 104857600 bytes; FUNCTIONS_REQUEST_BODY_SIZE_LIMIT.
func TestBodyLimit(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{proxied, forwarded, ""} {
		app, err := host.Load(root(map[string]string{"host.json": hostJSON(mode, ""), "f": httpFunction("f")}),
			env("FUNCTIONS_REQUEST_BODY_SIZE_LIMIT", "10"))
		require.NoError(t, err)
		h := host.New(app, host.Options{Handler: echoing()})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- h.Run(ctx) }()
		<-h.Ready()
		r := &rig{t: t, url: "http://" + h.Addr().String()}
		require.Equal(t, 413, r.do("POST", "/api/f", strings.NewReader("01234567890")).status, mode)
		if mode == proxied {
			require.Equal(t, 307, r.do("POST", "/api/f", strings.NewReader("0123456789")).status)
			require.Equal(t, 413, r.do("POST", "/api/f", unsized{strings.NewReader("01234567890")}).status)
		}
		cancel()
		require.NoError(t, <-ended)
	}
}

// Contract §1.2: an HTTP function without an http output uses the JSON protocol even when proxying is on; §3.1: the envelope's
// request; §3.7: the request inside.
func TestHTTPByJSON(t *testing.T) {
	t.Parallel()
	got := make(chan seen, 1)
	r := start(t, map[string]string{
		"host.json": hostJSON(proxied, ""),
		"PutOrder":  `{"bindings":[{"type":"httpTrigger","direction":"in","name":"req","authLevel":"anonymous","route":"orders/{id}"}]}`,
	}, host.Options{Handler: recorder(got)})
	answer := r.do("PUT", "/api/orders/7?verbose=1&tag=a&tag=b&code=secret", strings.NewReader(`{"qty":2,"id":"body"}`),
		"Host", "api.example.test", "Content-Type", "application/json; charset=utf-8")
	require.Equal(t, 204, answer.status)
	s, inv := <-got, r.next()
	require.Equal(t, "json", inv.Mode)
	require.Equal(t, "POST", s.request.Method)
	require.Equal(t, "/PutOrder", s.request.RequestURI)
	require.Equal(t, []string{"chunked"}, s.request.TransferEncoding)
	require.True(t, strings.HasPrefix(s.request.Host, "127.0.0.1:"))
	require.Equal(t, http.Header{
		"X-Azure-Functions-Hostversion": {host.Version}, "X-Azure-Functions-Invocationid": {inv.ID},
		"User-Agent": {"Azure-Functions-Host/" + host.Version}, "Content-Type": {"application/json; charset=utf-8"},
	}, s.request.Header)

	var req struct {
		URL, Method, Body string
		Query, Params     map[string]string
		Headers           map[string][]string
		Identities        []map[string]any
	}
	require.NoError(t, json.Unmarshal(s.Data["req"], &req))
	require.Equal(t, "http://api.example.test/api/orders/7?verbose=1&tag=a&tag=b&code=secret", req.URL)
	require.Equal(t, "PUT", req.Method)
	require.JSONEq(t, `{"qty":2,"id":"body"}`, req.Body)
	require.Equal(t, map[string]string{"verbose": "1", "tag": "a,b", "code": "secret"}, req.Query)
	require.Equal(t, map[string]string{"id": "7"}, req.Params)
	require.Equal(t, []string{"api.example.test"}, req.Headers["Host"])
	require.Len(t, req.Identities, 1)
	for name, want := range map[string]string{"qty": `"\"2\""`, "verbose": `"\"1\""`, "tag": `"\"a,b\""`, "id": `"\"7\""`} {
		require.Equal(t, want, string(s.Metadata[name]), name)
	}
	require.NotContains(t, s.Metadata, "code")
	require.Contains(t, s.Metadata, "Query")
	require.Contains(t, s.Metadata, "Headers")
	require.Contains(t, string(s.Metadata["sys"]), `"MethodName":"PutOrder"`)

	// "a chunked request body is dropped"; octets become base64.
	r.do("POST", "/api/orders/7", unsized{strings.NewReader("lost")})
	s = <-got
	require.NotContains(t, string(s.Data["req"]), `"Body"`)
	r.do("POST", "/api/orders/7", strings.NewReader("hello"), "Content-Type", "application/octet-stream")
	s = <-got
	require.Contains(t, string(s.Data["req"]), `"Body":"aGVsbG8="`)
}

// Contract §4.4: the http output of a function that is neither proxied nor forwarded; a failed invocation gives an empty 500.
func TestHTTPOutputOverHTTP(t *testing.T) {
	t.Parallel()
	files := map[string]string{"host.json": hostJSON("", ""), "f": httpFunction("f")}
	r := start(t, files, host.Options{
		Handler: reply(200, "application/json", `{"Outputs":{"res":{"statusCode":"201","headers":{"X-A":"b"},"body":[1]}}}`),
	})
	got := r.do("GET", "/api/f", nil)
	require.Equal(t, 201, got.status)
	require.Equal(t, "b", got.header.Get("X-A"))
	require.Equal(t, "text/plain; charset=utf-8", got.header.Get("Content-Type"))
	require.Equal(t, "[\n  1\n]", got.body)

	r = start(t, files, host.Options{Handler: reply(404, "application/json", `{}`)})
	got = r.do("GET", "/api/f", nil)
	require.Equal(t, 500, got.status)
	require.Empty(t, got.body)
}
