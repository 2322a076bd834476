// Package logging is how the handler's log is written: a JSON object a line, and of warnings and errors that are alike no
// more than tell what happens. It knows nothing of what is logged.
package logging

import (
	"io"
	"log/slog"
	"time"
)

// New is a log of JSON lines on w, sampled.
func New(w io.Writer, level slog.Leveler, now func() time.Time) *slog.Logger {
	return slog.New(NewSampler(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level}), now))
}

// Flush has a log say what its sampler left out and did not yet tell. It is for the end of the process, and does nothing to a
// log that is not sampled.
func Flush(log *slog.Logger) error {
	if s, sampled := log.Handler().(*Sampler); sampled {
		return s.Flush()
	}
	return nil
}
