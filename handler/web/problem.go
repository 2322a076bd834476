package web

import (
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"

	"liveops/core/fault"
)

// Answer is a whole HTTP answer as a value, so that it can be stored and sent again byte for byte.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Send writes the answer.
func (a Answer) Send(w http.ResponseWriter) error {
	for name, values := range a.Header {
		w.Header()[name] = slices.Clone(values)
	}
	w.WriteHeader(a.Status)
	_, err := w.Write(a.Body)
	return err
}

// Status is the HTTP status of a kind. This is the only place that maps the two.
func Status(kind fault.Kind) int {
	switch kind {
	case fault.Malformed:
		return http.StatusBadRequest
	case fault.Unauthenticated:
		return http.StatusUnauthorized
	case fault.Forbidden:
		return http.StatusForbidden
	case fault.NotFound:
		return http.StatusNotFound
	case fault.NotAllowed:
		return http.StatusMethodNotAllowed
	case fault.Conflict:
		return http.StatusConflict
	case fault.Gone:
		return http.StatusGone
	case fault.TooLarge:
		return http.StatusRequestEntityTooLarge
	case fault.Unsupported:
		return http.StatusUnsupportedMediaType
	case fault.Invalid:
		return http.StatusUnprocessableEntity
	case fault.RateLimited:
		return http.StatusTooManyRequests
	case fault.Unavailable:
		return http.StatusServiceUnavailable
	default:
		return http.StatusInternalServerError
	}
}

// Problem is the answer for err: an RFC 9457 document. Of an internal error it tells the caller nothing but that there was
// one; of any other fault its detail, fields and extra members, never the cause.
func Problem(err error, requestID string) Answer {
	f := &fault.Error{Code: fault.Unexpected}
	if fault.KindOf(err) != fault.Internal {
		f = fault.Of(err)
	}
	status := Status(f.Code.Kind())
	body, encodeErr := encode(document(f, status, requestID))
	if encodeErr != nil { // an extra member that is no JSON: the rest still tells what happened
		bare := *f
		bare.Extra = nil
		body, _ = encode(document(&bare, status, requestID))
	}
	header := http.Header{"Content-Type": {"application/problem+json"}}
	if wait, say := retryAfter(f); say {
		header.Set("Retry-After", wait)
	}
	if status == http.StatusUnauthorized {
		header.Set("WWW-Authenticate", `Liveops-HMAC-SHA256 version="v1"`)
	}
	return Answer{Status: status, Header: header, Body: body}
}

// document lists the members of the problem; the standard ones win over extra members of the same name.
func document(f *fault.Error, status int, requestID string) any {
	type problem struct {
		Type      string         `json:"type"`
		Title     string         `json:"title"`
		Status    int            `json:"status"`
		Detail    string         `json:"detail,omitzero"`
		Code      fault.Code     `json:"code"`
		RequestID string         `json:"request_id,omitzero"`
		Errors    []fault.Field  `json:"errors,omitempty"`
		Extra     map[string]any `json:",embed"`
	}
	p := problem{
		Type: "/problems/" + string(f.Code), Title: f.Code.Title(), Status: status, Detail: f.Detail,
		Code: f.Code, RequestID: requestID, Errors: f.Fields, Extra: make(map[string]any, len(f.Extra)),
	}
	for name, value := range f.Extra {
		switch name {
		case "type", "title", "status", "detail", "code", "request_id", "errors":
		default:
			p.Extra[name] = value
		}
	}
	return p
}

// code is the code the caller is told, which is Unexpected for a code that the catalogue does not have.
func code(err error) fault.Code {
	if fault.KindOf(err) == fault.Internal {
		return fault.Unexpected
	}
	return fault.CodeOf(err)
}

// retryAfter is in whole seconds, never less than what was asked for and never 0.
func retryAfter(f *fault.Error) (seconds string, say bool) {
	kind := f.Code.Kind()
	if f.RetryAfter <= 0 && kind != fault.RateLimited && kind != fault.Unavailable && f.Code != fault.IdempotencyInFlight {
		return "", false
	}
	return strconv.FormatInt(max(1, int64((f.RetryAfter+time.Second-1)/time.Second)), 10), true
}

func encode(v any) ([]byte, error) { return json.Marshal(v, json.Deterministic(true)) }
