// Package fault says in what way something went wrong: a kind, which decides what happens next (an HTTP status, a
// redelivery, the rejected store), and a code from one closed catalogue, which tells the caller what to do.
//
// It knows nothing of HTTP, queues or databases; handler/web maps kinds to statuses, core/pipeline maps them to the fate
// of a message. An error without a kind is internal: its text goes to the log and never to a caller.
package fault

import (
	"errors"
	"fmt"
	"time"
)

// Kind is the class of a fault. It is an error itself, so that errors.Is(err, fault.NotFound) asks for it.
type Kind uint8

// The kinds. Internal is the zero value: what nobody classified.
const (
	Internal        Kind = iota
	Malformed            // the bytes cannot be read as what they claim to be
	Invalid              // readable, and not acceptable
	Unauthenticated      // who is asking is not proven
	Forbidden            // proven, and not allowed
	NotFound             // no such thing
	NotAllowed           // the thing exists, the method does not
	Conflict             // something else is under way, or the state is past it
	Gone                 // it existed and will not come back
	TooLarge             // over a size or count limit
	Unsupported          // a media type or encoding that is not read here
	RateLimited          // too much, too fast: later
	Unavailable          // a dependency is down: later
)

var kindNames = [...]string{
	"internal", "malformed", "invalid", "unauthenticated", "forbidden", "not found", "not allowed",
	"conflict", "gone", "too large", "unsupported", "rate limited", "unavailable",
}

// String is the kind's name for logs.
func (k Kind) String() string { return kindNames[k] }

// Error makes a Kind usable as the target of errors.Is.
func (k Kind) Error() string { return kindNames[k] }

// Error is a fault with all a caller may know about it. Detail, Fields and Extra reach the caller; the wrapped cause only
// reaches the log.
type Error struct {
	Code       Code
	Detail     string
	Fields     []Field
	Extra      map[string]any // further members of the answer, such as server_time
	RetryAfter time.Duration  // 0: not said
	cause      error
}

// Field is one thing wrong with one place of the input.
type Field struct {
	Pointer string `json:"pointer"` // RFC 6901, from the root of what was sent
	Code    Code   `json:"code"`
	Detail  string `json:"detail,omitempty"`
}

// Errorf makes a fault of this code; the text is for the caller.
func (c Code) Errorf(format string, args ...any) *Error {
	return &Error{Code: c, Detail: fmt.Sprintf(format, args...)}
}

// Wrap makes a fault of this code caused by err. detail is for the caller, err for the log.
func (c Code) Wrap(err error, detail string) *Error {
	return &Error{Code: c, Detail: detail, cause: err}
}

// Error is the whole story, for logs: code, detail and cause.
func (e *Error) Error() string {
	text := string(e.Code)
	if e.Detail != "" {
		text += ": " + e.Detail
	}
	if e.cause != nil {
		text += ": " + e.cause.Error()
	}
	return text
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.cause }

// Is matches a Kind or a Code.
func (e *Error) Is(target error) bool {
	switch t := target.(type) {
	case Kind:
		return e.Code.Kind() == t
	case Code:
		return e.Code == t
	}
	return false
}

// After sets how long the caller should wait before another try.
func (e *Error) After(d time.Duration) *Error {
	e.RetryAfter = d
	return e
}

// Of is err as a fault: itself, or one of the code Unexpected that wraps it.
func Of(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return Unexpected.Wrap(err, "")
}

// KindOf is the kind of err, Internal when nobody gave it one.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Code.Kind()
	}
	return Internal
}

// CodeOf is the code of err, Unexpected when nobody gave it one.
func CodeOf(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return Unexpected
}
