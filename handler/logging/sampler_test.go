package logging

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/slogtest"
	"time"

	"github.com/stretchr/testify/require"
)

// book is a sampled log with a clock.
type book struct {
	*slog.Logger
	mu   sync.Mutex
	now  time.Time
	text bytes.Buffer
}

func newBook() *book {
	b := &book{now: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)}
	b.Logger = New(b, slog.LevelInfo, func() time.Time {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.now
	})
	return b
}

func (b *book) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *book) pass(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now = b.now.Add(d)
}

// take gives the lines since the last call, without their times.
func (b *book) take(t *testing.T) (lines []map[string]any) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for text := range strings.Lines(b.text.String()) {
		var line map[string]any
		require.NoError(t, json.Unmarshal([]byte(text), &line), text)
		require.NotEmpty(t, line["time"])
		delete(line, "time")
		lines = append(lines, line)
	}
	b.text.Reset()
	return lines
}

func TestTheSamplerIsAHandler(t *testing.T) {
	t.Parallel()
	var text bytes.Buffer
	slogtest.Run(t, func(*testing.T) slog.Handler {
		text.Reset()
		return New(&text, slog.LevelInfo, time.Now).Handler()
	}, func(t *testing.T) (line map[string]any) {
		require.NoError(t, json.Unmarshal(text.Bytes(), &line))
		return line
	})
}

func TestOfAKindTenPassInAMinute(t *testing.T) {
	t.Parallel()
	b := newBook()
	say := func() {
		b.Error("invocation", slog.String("function", "progression"), slog.String("code", "database-unavailable"), slog.String("error", "refused"))
	}
	for range 10 {
		say()
		b.pass(time.Second)
	}
	lines := b.take(t)
	require.Len(t, lines, 10)
	require.Equal(t, "refused", lines[9]["error"])
	for range 25 {
		say()
		b.pass(time.Second)
	}
	require.Empty(t, b.take(t))
	b.pass(25 * time.Second) // a minute since the first
	say()
	lines = b.take(t)
	require.Len(t, lines, 2)
	require.Equal(t, map[string]any{
		"level": "ERROR", "msg": "lines left out", "like": "invocation", "function": "progression", "code": "database-unavailable",
		"suppressed": 25.0, "since": "2026-11-22T12:00:10Z",
	}, lines[0])
	require.Equal(t, "invocation", lines[1]["msg"])
	for range 9 {
		say()
	}
	require.Len(t, b.take(t), 9, "the next minute has ten of its own")
	say()
	require.Empty(t, b.take(t))
}

func TestWhatIsAlike(t *testing.T) {
	t.Parallel()
	alike := []any{slog.String("function", "f"), slog.String("route", "/r"), slog.String("code", "c")}
	for name, test := range map[string]struct {
		say  func(*slog.Logger)
		same bool
	}{
		"another error":              {func(l *slog.Logger) { l.With(alike...).Warn("m", slog.String("error", "e")) }, true},
		"in another order":           {func(l *slog.Logger) { l.Warn("m", alike[2], alike[0], alike[1]) }, true},
		"some of it said before":     {func(l *slog.Logger) { l.With(alike[:2]...).Warn("m", alike[2]) }, true},
		"said before another group":  {func(l *slog.Logger) { l.With(alike...).WithGroup("g").Warn("m", slog.String("code", "d")) }, true},
		"said anew":                  {func(l *slog.Logger) { l.With(slog.String("code", "d")).Warn("m", alike...) }, true},
		"another message":            {func(l *slog.Logger) { l.Warn("n", alike...) }, false},
		"another level":              {func(l *slog.Logger) { l.Error("m", alike...) }, false},
		"another function":           {func(l *slog.Logger) { l.Warn("m", append([]any{slog.String("function", "g")}, alike[1:]...)...) }, false},
		"another route":              {func(l *slog.Logger) { l.Warn("m", alike[0], slog.String("route", "/s"), alike[2]) }, false},
		"another code":               {func(l *slog.Logger) { l.Warn("m", alike[0], alike[1], slog.String("code", "d")) }, false},
		"no code":                    {func(l *slog.Logger) { l.Warn("m", alike[:2]...) }, false},
		"all of it inside a group":   {func(l *slog.Logger) { l.WithGroup("g").Warn("m", alike...) }, false},
		"said inside a group before": {func(l *slog.Logger) { l.WithGroup("g").With(alike...).Warn("m") }, false},
		"as members of a group":      {func(l *slog.Logger) { l.Warn("m", slog.Group("g", alike...)) }, false},
		"less than a warning":        {func(l *slog.Logger) { l.Info("m", alike...) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBook()
			for range 11 {
				b.Warn("m", alike...)
			}
			require.Len(t, b.take(t), 10)
			test.say(b.Logger)
			require.Equal(t, test.same, len(b.take(t)) == 0)
		})
	}
}

func TestWhatIsLessThanAWarningAlwaysPasses(t *testing.T) {
	t.Parallel()
	b := newBook()
	for range 100 {
		b.Info("invocation", slog.String("function", "fairness"))
		b.Debug("nobody asked for it")
	}
	require.Len(t, b.take(t), 100)
	b.pass(time.Hour)
	b.Info("invocation")
	require.NoError(t, Flush(b.Logger))
	require.Len(t, b.take(t), 1, "nothing was left out")
}

// Whatever comes next tells what was left out, and at the end Flush does.
func TestNothingIsLostSilently(t *testing.T) {
	t.Parallel()
	storm := func(b *book, n int) {
		for range n {
			b.Warn("start", slog.String("error", "refused"))
		}
	}
	for name, next := range map[string]struct {
		then func(*testing.T, *book)
		more int // lines
	}{
		"an info line": {func(_ *testing.T, b *book) { b.pass(time.Minute); b.Info("invocation") }, 1},
		"a line with a group": {func(_ *testing.T, b *book) {
			b.pass(time.Minute)
			b.WithGroup("g").Info("invocation", slog.Int("n", 1))
		}, 1},
		"another warning":           {func(_ *testing.T, b *book) { b.pass(time.Hour); b.Warn("close redis") }, 1},
		"the end":                   {func(t *testing.T, b *book) { require.NoError(t, Flush(b.Logger)) }, 0},
		"the end, of a derived log": {func(t *testing.T, b *book) { require.NoError(t, Flush(b.With(slog.Int("n", 1)))) }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBook()
			storm(b, 17)
			require.Len(t, b.take(t), 10)
			next.then(t, b)
			lines := b.take(t)
			require.Len(t, lines, 1+next.more)
			require.Equal(t, map[string]any{
				"level": "WARN", "msg": "lines left out", "like": "start", "suppressed": 7.0, "since": "2026-11-22T12:00:00Z",
			}, lines[0])
			require.NoError(t, Flush(b.Logger))
			require.Empty(t, b.take(t), "it is told once")
		})
	}
	b := newBook()
	storm(b, 13)
	b.pass(59 * time.Second)
	b.Info("invocation")
	require.Len(t, b.take(t), 11, "the minute is not over")
}

// Whoever puts something without bounds into a message costs neither memory nor silence.
func TestKindsAreBounded(t *testing.T) {
	t.Parallel()
	b := newBook()
	for i := range 10_000 {
		b.Warn(fmt.Sprint("message ", i))
	}
	b.Error("the only error")
	sampler, ok := b.Handler().(*Sampler)
	require.True(t, ok)
	require.LessOrEqual(t, len(sampler.kinds), 256+2)
	lines := b.take(t)
	require.Len(t, lines, 256+10+1)
	require.Equal(t, "the only error", lines[266]["msg"], "warnings do not hide it")
	require.NoError(t, Flush(b.Logger))
	lines = b.take(t)
	require.Len(t, lines, 1)
	require.Equal(t, []any{"any other", 10_000.0 - 256 - 10}, []any{lines[0]["like"], lines[0]["suppressed"]})
	b.pass(time.Minute)
	b.Info("invocation")
	require.Empty(t, sampler.kinds)
}

func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	b := newBook()
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for i := range 1000 {
				b.With(slog.String("function", "f")).Warn("m")
				if i%100 == 0 {
					b.pass(13 * time.Second)
					_ = Flush(b.Logger)
				}
			}
		})
	}
	all.Wait()
	require.NoError(t, Flush(b.Logger))
	sum, told := 0, 0
	for _, line := range b.take(t) {
		if n, summary := line["suppressed"].(float64); summary {
			sum, told = sum+int(n), told+1
		} else {
			sum++
		}
	}
	require.Equal(t, 8000, sum)
	require.Positive(t, told)
}

// broken is a handler that cannot write.
type broken struct{ slog.Handler }

func (broken) Handle(context.Context, slog.Record) error { return errors.New("disk full") }

func TestWhatCannotBeWrittenIsSaid(t *testing.T) {
	t.Parallel()
	s := NewSampler(broken{slog.DiscardHandler}, time.Now)
	for range 10 {
		require.EqualError(t, s.Handle(t.Context(), slog.NewRecord(time.Now(), slog.LevelWarn, "m", 0)), "disk full")
	}
	require.NoError(t, s.Handle(t.Context(), slog.NewRecord(time.Now(), slog.LevelWarn, "m", 0)))
	require.EqualError(t, s.Flush(), "disk full")
	require.NoError(t, Flush(slog.New(slog.DiscardHandler)), "another log has nothing to tell")
}
