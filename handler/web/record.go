package web

import (
	"context"
	"log/slog"
	"net/http"
	"strings"

	"github.com/google/uuid"
)

// Record is what the edge knows of a request and what its log line will say. It belongs to the goroutine that handles the
// request.
type Record struct {
	RequestID string
	KeyID     string // as it may be logged; set by whoever verified the signature

	attrs []slog.Attr
	err   error
}

// Add puts more on the request's log line, under names that the edge does not use itself.
func (r *Record) Add(attrs ...slog.Attr) { r.attrs = append(r.attrs, attrs...) }

type recordKey struct{}

// RecordOf is the record of the request that ctx belongs to; outside of one, a record that nobody reads.
func RecordOf(ctx context.Context) *Record {
	if record, ok := ctx.Value(recordKey{}).(*Record); ok {
		return record
	}
	return &Record{}
}

// requestID is the client's own id when it is fit for a log line, and a new one otherwise.
func requestID(h http.Header) string {
	const fit = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"
	if id := h.Get("X-Request-Id"); id != "" && len(id) <= 128 && strings.Trim(id, fit) == "" {
		return id
	}
	return uuid.Must(uuid.NewV7()).String()
}

// answerWriter notes what was answered.
type answerWriter struct {
	http.ResponseWriter
	status int // 0 before the answer began
	bytes  int64
}

func (w *answerWriter) WriteHeader(status int) {
	if w.status == 0 && (status >= 200 || status == http.StatusSwitchingProtocols) {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *answerWriter) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(p)
	w.bytes += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController reach the connection.
func (w *answerWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
