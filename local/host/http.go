package host

import (
	"context"
	"encoding/base64"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// ServeHTTP answers the host's own paths and hands every other request to the function whose route and methods match. A
// method that no function lists is a 404, as on the real host.
func (h *Host) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch escaped := r.URL.EscapedPath(); {
	case escaped == "/":
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = io.WriteString(w, "<!doctype html><title>functions</title><p>Your Functions host is up and running.\n")
		return
	case escaped == "/admin/host/ping" && (r.Method == http.MethodGet || r.Method == http.MethodPost):
		w.WriteHeader(http.StatusOK)
		return
	case strings.HasPrefix(escaped, "/admin/functions/") && r.Method == http.MethodPost:
		h.trigger(w, r, strings.TrimPrefix(escaped, "/admin/functions/"))
		return
	case strings.HasPrefix(escaped, "/admin/"):
		w.WriteHeader(http.StatusNotFound)
		return
	}
	for _, f := range h.routes {
		params, ok := f.template.match(r.URL.EscapedPath())
		if !ok || len(f.Methods) > 0 && !slices.Contains(f.Methods, r.Method) {
			continue
		}
		if r.ContentLength > h.bodyMax {
			w.Header().Set("Connection", "close")
			w.WriteHeader(http.StatusRequestEntityTooLarge)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, h.bodyMax)
		// Which of the three ways: contract §1.2.
		switch handler := h.app.handler; {
		case f.proxied() && handler.EnableProxyingHTTPRequest:
			h.proxy(w, r, f)
		case f.proxied() && handler.EnableForwardingHTTPRequest:
			h.forward(w, r, f)
		default:
			h.call(w, r, f, params)
		}
		return
	}
	w.WriteHeader(http.StatusNotFound)
}

// trigger starts a timer function and does not wait for it. The real host wants its master key here.
func (h *Host) trigger(w http.ResponseWriter, r *http.Request, name string) {
	i := slices.IndexFunc(h.app.Functions, func(f Function) bool { return strings.EqualFold(f.Name, name) })
	if i < 0 {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	f := &h.app.Functions[i]
	if f.Trigger != "timerTrigger" {
		http.Error(w, "only timer functions can be triggered by hand here", http.StatusBadRequest)
		return
	}
	ctx := context.WithoutCancel(r.Context())
	h.triggers.Go(func() { _ = h.fire(ctx, f, nil) })
	w.WriteHeader(http.StatusAccepted)
}

// call runs an HTTP function by the JSON protocol (contract §3.7, §4.4).
func (h *Host) call(w http.ResponseWriter, r *http.Request, f *Function, params map[string]string) {
	inv := &Invocation{Function: f.Name, Mode: "json"}
	var answer *httpAnswer
	err := h.invoke(context.WithoutCancel(r.Context()), inv, func(ctx context.Context, inst *instance) error {
		data := h.data(inv)
		value, err := requestValue(r, params, data)
		if err != nil {
			return err
		}
		res, err := h.post(ctx, inst, inv, f.Binding, value, data)
		if err != nil {
			return err
		}
		answer, err = f.answer(res)
		return err
	})
	if err != nil {
		refuse(w, err, http.StatusInternalServerError)
		return
	}
	for name, values := range answer.header {
		w.Header()[name] = values
	}
	w.WriteHeader(answer.status)
	_, _ = w.Write(answer.body) // a caller who left misses nothing
}

// refuse answers an invocation that failed before the handler could.
func refuse(w http.ResponseWriter, err error, status int) {
	if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
		status = http.StatusRequestEntityTooLarge
	}
	w.WriteHeader(status)
}

// requestValue is a request as the JSON protocol describes it. What the caller controls leaks into data: the body's
// properties, then the query, then the route's parameters.
func requestValue(r *http.Request, params map[string]string, data bindingData) (any, error) {
	query := map[string]string{}
	for _, p := range joinedQuery(r.URL.RawQuery) {
		query[p.name] = p.value
	}
	headers := map[string]string{"Host": r.Host}
	lists := map[string][]string{"Host": {r.Host}}
	for name, values := range r.Header {
		headers[name] = strings.Join(values, ",")
		lists[name] = values
	}
	address := url.URL{Scheme: "http", Host: r.Host, Path: r.URL.Path, RawPath: r.URL.RawPath, RawQuery: r.URL.RawQuery}
	request := map[string]any{
		"Url": address.String(), "Method": r.Method, "Query": query, "Headers": lists, "Params": params,
		"Identities": []any{map[string]any{
			"AuthenticationType": nil, "IsAuthenticated": false, "Actor": nil, "BootstrapContext": nil, "Claims": []any{}, "Label": nil,
			"Name":          nil,
			"NameClaimType": "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/name",
			"RoleClaimType": "http://schemas.microsoft.com/ws/2008/06/identity/claims/role",
		}},
	}
	if r.ContentLength > 0 { // a chunked body is dropped
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
		if kind == "application/octet-stream" || strings.HasPrefix(kind, "multipart/") {
			request["Body"] = base64.StdEncoding.EncodeToString(body)
		} else {
			text := strings.ToValidUTF8(string(body), "�")
			request["Body"] = text
			if kind == "application/json" {
				data.leak(text)
			}
		}
	}
	for name, value := range query {
		if !strings.EqualFold(name, "code") {
			data.set(name, value)
		}
	}
	for name, value := range params {
		data.set(name, value)
	}
	data.set("Query", object(compact(query)))
	data.set("Headers", object(compact(headers)))
	return object(compact(request)), nil
}

type pair struct{ name, value string }

// joinedQuery is a query as ASP.NET sees it: names without regard to case, the values of a repeated one joined by commas.
func joinedQuery(raw string) []pair {
	var pairs []pair
	for part := range strings.SplitSeq(raw, "&") {
		if part == "" {
			continue
		}
		name, value, _ := strings.Cut(part, "=")
		name, value = unescapeQuery(name), unescapeQuery(value)
		if i := slices.IndexFunc(pairs, func(p pair) bool { return strings.EqualFold(p.name, name) }); i >= 0 {
			pairs[i].value += "," + value
			continue
		}
		pairs = append(pairs, pair{name, value})
	}
	return pairs
}

func unescapeQuery(text string) string {
	if plain, err := url.QueryUnescape(text); err == nil {
		return plain
	}
	return text
}
