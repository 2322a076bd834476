package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"time"
)

// proxy hands a request through, streaming both ways (contract §5.2).
func (h *Host) proxy(w http.ResponseWriter, r *http.Request, f *Function) {
	inv := &Invocation{Function: f.Name, Mode: "proxy"}
	called, aborted := false, false
	err := h.invoke(r.Context(), inv, func(ctx context.Context, _ *instance) (failure error) {
		called = true
		defer func() {
			if v := recover(); v != nil {
				if err, ok := v.(error); !ok || !errors.Is(err, http.ErrAbortHandler) {
					panic(v)
				}
				aborted, failure = true, errors.New("forwarding the answer: it broke off")
			}
			if r.Context().Err() != nil {
				failure = nil // the client left, which is no failure of the function
			}
		}()
		proxy := httputil.ReverseProxy{
			Rewrite: func(p *httputil.ProxyRequest) {
				p.Out.URL.Scheme = "http"
				p.Out.URL.RawQuery = p.In.URL.RawQuery
				p.Out.Host = ""
				sendOnce(p.Out)
				p.SetXForwarded()
				p.Out.Header.Set(headerVersion, Version)
				p.Out.Header.Set(headerInvocation, inv.ID)
				p.Out.Header.Set("X-Ms-Invocation-Id", inv.ID)
			},
			Transport:     patient{h.worker},
			FlushInterval: -1,
			BufferPool:    pool{h},
			ErrorLog:      log.New(io.Discard, "", 0),
			ModifyResponse: func(response *http.Response) error {
				inv.Status = response.StatusCode
				return nil
			},
			ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
				failure = fmt.Errorf("forwarding the request: %w", err)
				status := http.StatusBadGateway
				if ctx.Err() != nil {
					status = http.StatusInternalServerError
				}
				refuse(w, err, status)
			},
		}
		proxy.ServeHTTP(w, r.WithContext(ctx))
		return failure
	})
	switch {
	case aborted:
		panic(http.ErrAbortHandler)
	case !called:
		refuse(w, err, http.StatusInternalServerError)
	}
}

// patient sends a request to the handler, and again, up to ten times in all, while nobody listens there.
type patient struct{ worker *worker }

// RoundTrip implements http.RoundTripper.
func (p patient) RoundTrip(request *http.Request) (*http.Response, error) {
	delays := []time.Duration{50, 100, 200, 250, 250, 250, 250, 250, 250}
	for attempt := 0; ; attempt++ {
		inst, err := p.worker.await(request.Context())
		if err != nil {
			return nil, err
		}
		out, target := *request, *request.URL
		target.Host = inst.address
		out.URL = &target
		if request.Body != nil && request.Body != http.NoBody {
			out.Body = io.NopCloser(request.Body) // a failed attempt must leave it open for the next
		}
		response, err := inst.transport.RoundTrip(&out)
		op := new(net.OpError)
		if err == nil || attempt == len(delays) || !errors.As(err, &op) || op.Op != "dial" {
			return response, err
		}
		select {
		case <-time.After(delays[attempt] * time.Millisecond):
		case <-request.Context().Done():
			return nil, err
		}
	}
}

type buffer [32 << 10]byte

type pool struct{ h *Host }

// Get implements httputil.BufferPool.
func (p pool) Get() []byte { return p.h.buffers.Get().(*buffer)[:] }

// Put implements httputil.BufferPool.
func (p pool) Put(space []byte) { p.h.buffers.Put((*buffer)(space)) }

// lost are the content headers that do not survive forwarding, because only a body's own two are copied.
var lost = []string{
	"Allow", "Content-Disposition", "Content-Encoding", "Content-Language", "Content-Length", "Content-Location", "Content-Md5",
	"Content-Range", "Content-Type", "Expires", "Last-Modified",
}

// forward rebuilds a request and buffers the answer, with all that this loses (contract §5.1).
func (h *Host) forward(w http.ResponseWriter, r *http.Request, f *Function) {
	inv := &Invocation{Function: f.Name, Mode: "forward"}
	var header http.Header
	var answer []byte
	err := h.invoke(context.WithoutCancel(r.Context()), inv, func(ctx context.Context, inst *instance) error {
		request, err := rebuilt(ctx, r, inst.address, inv.ID)
		if err != nil {
			return err
		}
		response, err := inst.transport.RoundTrip(request)
		if err != nil {
			return fmt.Errorf("forwarding the request: %w", err)
		}
		defer response.Body.Close() //nolint:errcheck // read to the end or given up
		inv.Status, header = response.StatusCode, response.Header
		answer, err = io.ReadAll(response.Body)
		return err
	})
	if err != nil {
		refuse(w, err, http.StatusInternalServerError)
		return
	}
	for name, values := range header {
		if name != "Transfer-Encoding" {
			w.Header()[name] = values
		}
	}
	w.WriteHeader(inv.Status)
	_, _ = w.Write(answer) // a caller who left misses nothing
}

func rebuilt(ctx context.Context, r *http.Request, address, invocation string) (*http.Request, error) {
	target := url.URL{Scheme: "http", Host: address, Path: r.URL.Path, RawPath: r.URL.RawPath}
	var query []string
	for _, p := range joinedQuery(r.URL.RawQuery) {
		query = append(query, escapeQuery(p.name)+"="+escapeQuery(p.value))
	}
	target.RawQuery = strings.Join(query, "&")
	var body []byte
	if r.ContentLength > 0 { // a chunked body is dropped
		var err error
		if body, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
	}
	out, err := http.NewRequestWithContext(ctx, r.Method, target.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	out.Host = r.Host
	for name, values := range r.Header {
		if !slices.Contains(lost, name) {
			out.Header[name] = []string{strings.Join(values, separator(name))}
		}
	}
	if body != nil {
		out.Header["Content-Type"] = r.Header["Content-Type"]
	}
	// Appended: what the client sent under these names stays in front.
	for _, own := range []pair{{headerVersion, Version}, {headerInvocation, invocation}, {"User-Agent", userAgent}} {
		value := own.value
		if sent := out.Header.Get(own.name); sent != "" {
			value = sent + separator(own.name) + value
		}
		out.Header.Set(own.name, value)
	}
	sendOnce(out)
	return out, nil
}

// sendOnce keeps Go's transport from sending a request again after a broken connection, which it would do on its own when the
// request looks idempotent: it has no body or one that can be rewound, and a safe method or an Idempotency-Key.
func sendOnce(r *http.Request) {
	r.GetBody = nil
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		if r.Body == nil || r.Body == http.NoBody {
			r.Body = exhausted{}
		}
	}
	for _, name := range []string{"Idempotency-Key", "X-Idempotency-Key"} {
		if values, ok := r.Header[name]; ok {
			delete(r.Header, name)
			r.Header[strings.ToLower(name)] = values // the transport looks for the canonical spelling only
		}
	}
}

// exhausted is an empty body that cannot be rewound.
type exhausted struct{}

// Read implements io.Reader.
func (exhausted) Read([]byte) (int, error) { return 0, io.EOF }

// Close implements io.Closer.
func (exhausted) Close() error { return nil }

// separator is what .NET puts between several values of a header, which it writes as one line.
func separator(name string) string {
	switch name {
	case "User-Agent":
		return " "
	case "Cookie":
		return "; "
	default:
		return ", "
	}
}

func escapeQuery(text string) string { return strings.ReplaceAll(url.QueryEscape(text), "+", "%20") }
