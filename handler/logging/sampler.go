package logging

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"
)

const (
	first  = 10          // records of a kind that pass in a period
	period = time.Minute // which begins with the first warning
	most   = 256         // kinds that are told apart in a period
)

// Sampler is a handler that bounds how often the same thing is said. Of the records at slog.LevelWarn and above that are of one
// kind the first 10 of a minute pass. The others are counted, and one record tells their number when the minute is over, along
// with whatever is logged next, or when Flush asks for it. Records below slog.LevelWarn all pass.
type Sampler struct {
	next    slog.Handler
	with    kind // what WithAttrs said of the kind
	grouped bool // attributes are members of a group, and say nothing of the kind
	*tally
}

// kind is what alike records have in common. The attributes have values from closed sets; an error's text is none of them.
type kind struct {
	level                 slog.Level
	message               string
	function, route, code string
}

// tally is shared by a sampler and all that are made of it.
type tally struct {
	root slog.Handler // without attributes and groups
	now  func() time.Time

	mu    sync.Mutex
	began time.Time // the period
	kinds map[kind]*count
}

type count struct {
	passed, suppressed int
	since              time.Time // the first that did not pass
}

// NewSampler makes a Sampler in front of another handler.
func NewSampler(next slog.Handler, now func() time.Time) *Sampler {
	return &Sampler{next: next, tally: &tally{root: next, now: now, kinds: map[kind]*count{}}}
}

// Enabled implements slog.Handler.
func (s *Sampler) Enabled(ctx context.Context, level slog.Level) bool {
	return s.next.Enabled(ctx, level)
}

// WithAttrs implements slog.Handler.
func (s *Sampler) WithAttrs(attrs []slog.Attr) slog.Handler {
	made := *s
	made.next = s.next.WithAttrs(attrs)
	if !s.grouped {
		for _, a := range attrs {
			made.with.note(a)
		}
	}
	return &made
}

// WithGroup implements slog.Handler.
func (s *Sampler) WithGroup(name string) slog.Handler {
	made := *s
	made.next = s.next.WithGroup(name)
	made.grouped = s.grouped || name != ""
	return &made
}

// Handle implements slog.Handler.
func (s *Sampler) Handle(ctx context.Context, r slog.Record) error {
	now := s.now()
	told := s.expire(ctx, now)
	if r.Level >= slog.LevelWarn && !s.pass(s.kind(r), now) {
		return told
	}
	return errors.Join(told, s.next.Handle(ctx, r))
}

// Flush tells what was left out since it was last told.
func (s *Sampler) Flush() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tell(context.Background(), s.now())
}

func (s *Sampler) kind(r slog.Record) kind {
	k := s.with
	k.level, k.message = r.Level, r.Message
	if !s.grouped {
		r.Attrs(func(a slog.Attr) bool {
			k.note(a)
			return true
		})
	}
	return k
}

func (k *kind) note(a slog.Attr) {
	switch a.Key {
	case "function":
		k.function = a.Value.Resolve().String()
	case "route":
		k.route = a.Value.Resolve().String()
	case "code":
		k.code = a.Value.Resolve().String()
	}
}

// pass counts a record and says whether it passes. Kinds beyond those that are told apart count as one of their level.
func (t *tally) pass(k kind, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, known := t.kinds[k]; !known && len(t.kinds) >= most {
		k = kind{level: k.level, message: "any other"}
	}
	c := t.kinds[k]
	if c == nil {
		c = &count{}
		if len(t.kinds) == 0 {
			t.began = now
		}
		t.kinds[k] = c
	}
	if c.passed < first {
		c.passed++
		return true
	}
	if c.suppressed == 0 {
		c.since = now
	}
	c.suppressed++
	return false
}

// expire ends a period that is over.
func (t *tally) expire(ctx context.Context, now time.Time) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.kinds) == 0 || now.Sub(t.began) < period {
		return nil
	}
	defer clear(t.kinds)
	return t.tell(ctx, now)
}

// tell logs how many of each kind did not pass, and counts anew. It holds the lock while it does, so that what was counted is
// in the log when Flush returns.
func (t *tally) tell(ctx context.Context, now time.Time) error {
	var problems []error
	for k, c := range t.kinds {
		if c.suppressed == 0 {
			continue
		}
		r := slog.NewRecord(now, k.level, "lines left out", 0)
		r.AddAttrs(slog.String("like", k.message))
		r.AddAttrs(slices.DeleteFunc([]slog.Attr{
			slog.String("function", k.function), slog.String("route", k.route), slog.String("code", k.code),
		}, func(a slog.Attr) bool { return a.Value.String() == "" })...)
		r.AddAttrs(slog.Int("suppressed", c.suppressed), slog.Time("since", c.since.UTC()))
		problems = append(problems, t.root.Handle(ctx, r))
		c.suppressed = 0
	}
	return errors.Join(problems...)
}
