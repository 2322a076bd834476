package fairness

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"math"

	"liveops/core/event"
)

// mark begins what is known of a player: a salt that stays, and how often it was saved. So nobody can save over what he has not
// read, even when it was lost and began anew.
type mark [saltSize + 4]byte

const saltSize = 8

// form is the version of the encoding.
const form = 1

// The parts of a series that are there.
const (
	hasBoard = 1 << iota
	hasInstants
	hasCells
	hasHabit
	hasRhythm
	hasVoted
	hasTold
)

var errState = errors.New("cannot be read: it was written by another program")

// encode writes the features with the next mark. Within a series each time is written as the difference from the one before.
func (f *features) encode() []byte {
	next := f.mark
	binary.BigEndian.PutUint32(next[saltSize:], binary.BigEndian.Uint32(next[saltSize:])+1)
	b := make([]byte, 0, 64+len(f.judged)+128*len(f.notable)+128*len(f.series))
	b = append(b, next[:]...)
	b = append(b, form)
	b = binary.AppendVarint(b, f.hour)
	b = binary.AppendVarint(b, int64(f.lately[0]))
	b = binary.AppendVarint(b, int64(f.lately[1]))
	b = appendText(b, f.judged)
	b = binary.AppendVarint(b, int64(len(f.notable)))
	for _, r := range f.notable {
		b = append(b, r.digest[:]...)
		b = binary.AppendVarint(b, r.at)
		b = binary.AppendVarint(b, int64(r.version))
		b = binary.AppendVarint(b, int64(len(r.findings)))
		for i := range r.findings {
			b = r.findings[i].append(b)
		}
	}
	b = binary.AppendVarint(b, int64(len(f.series)))
	for i := range f.series {
		b = f.series[i].append(b)
	}
	return b
}

func (s *series) append(b []byte) []byte {
	var parts byte
	note := func(part byte, has bool) {
		if has {
			parts |= part
		}
	}
	note(hasBoard, s.board)
	note(hasInstants, len(s.instants) > 0)
	note(hasCells, len(s.cells) > 0)
	note(hasHabit, s.habit != habit{})
	note(hasRhythm, s.rhythm != rhythm{})
	note(hasVoted, s.voted != 0)
	note(hasTold, s.told != 0)
	b = append(b, parts)
	b = appendName(b, s.name)
	before := int64(0)
	if parts&hasInstants != 0 {
		b = binary.AppendVarint(b, int64(len(s.instants)))
		for _, at := range s.instants {
			b = binary.AppendVarint(b, at-before)
			before = at
		}
	}
	if parts&hasCells != 0 {
		b = binary.AppendVarint(b, int64(len(s.cells)))
		for _, c := range s.cells {
			b = binary.AppendVarint(b, c.from-before)
			b = binary.AppendVarint(b, c.to-c.from)
			b = binary.AppendVarint(b, c.points)
			before = c.from
		}
	}
	if parts&hasHabit != 0 {
		b = binary.AppendVarint(b, s.habit.n)
		b = appendFloat(appendFloat(b, s.habit.mean), s.habit.variance)
	}
	if parts&hasRhythm != 0 {
		b = binary.AppendVarint(b, s.rhythm.last-before)
		b = binary.AppendVarint(b, s.rhythm.n)
		b = appendFloat(appendFloat(b, s.rhythm.mean), s.rhythm.away)
	}
	if parts&hasVoted != 0 {
		b = binary.AppendVarint(b, s.voted)
		b = binary.AppendVarint(b, s.scores)
	}
	if parts&hasTold != 0 {
		b = appendFloat(binary.AppendVarint(b, s.told), s.toldAt)
	}
	return b
}

// short are the names that everybody's features have, in an order that belongs to the form.
var short = [...]string{event.XPGained, event.ScoreSubmitted, event.BossKilled, event.ItemAcquired} //nolint:gochecknoglobals // a table

// appendName writes a name, one of the table as its place in it.
func appendName(b []byte, name string) []byte {
	for i, known := range short {
		if name == known {
			return binary.AppendVarint(b, int64(-1-i))
		}
	}
	return appendText(b, []byte(name))
}

func (f *Finding) append(b []byte) []byte {
	for _, text := range [...]string{f.Rule, f.Mode, string(f.Verdict), f.Measure, f.Text} {
		b = appendText(b, []byte(text))
	}
	for _, n := range [...]int64{int64(f.Version), int64(f.Points), f.Window, f.Baseline} {
		b = binary.AppendVarint(b, n)
	}
	b = binary.BigEndian.AppendUint64(b, math.Float64bits(f.Limit))
	return binary.BigEndian.AppendUint64(b, math.Float64bits(f.Observed))
}

func appendText(b, text []byte) []byte {
	return append(binary.AppendVarint(b, int64(len(text))), text...)
}

func appendFloat(b []byte, x float32) []byte {
	return binary.BigEndian.AppendUint32(b, math.Float32bits(x))
}

// decode reads what encode wrote; nothing is somebody of whom nothing is known.
func decode(b []byte) (*features, error) {
	f := &features{}
	if len(b) == 0 {
		_, _ = rand.Read(f.mark[:saltSize]) // it never fails
		return f, nil
	}
	r := reader{rest: b}
	copy(f.mark[:], r.take(int64(len(f.mark))))
	if version := r.take(1); r.failed || version[0] != form {
		return nil, errState
	}
	f.hour, f.lately = r.number(), [2]int{int(r.number()), int(r.number())}
	judged := r.text()
	f.judged = append(make([]byte, 0, len(judged)+8*len(digest{})), judged...)
	f.notable = make([]remembered, r.count())
	for i := range f.notable {
		n := &f.notable[i]
		copy(n.digest[:], r.take(int64(len(n.digest))))
		n.at, n.version = r.number(), int(r.number())
		n.findings = make([]Finding, r.count())
		for i := range n.findings {
			r.finding(&n.findings[i])
		}
	}
	n := r.count()
	f.series = make([]series, n, n+1)
	for i := range f.series {
		r.series(&f.series[i])
	}
	if r.failed || len(r.rest) > 0 || len(f.judged)%len(digest{}) != 0 {
		return nil, errState
	}
	return f, nil
}

// reader reads numbers and texts. After the end of what there is it has failed and gives zeros.
type reader struct {
	rest   []byte
	failed bool
}

func (r *reader) number() int64 {
	n, size := binary.Varint(r.rest)
	if size <= 0 {
		r.failed, r.rest = true, nil
		return 0
	}
	r.rest = r.rest[size:]
	return n
}

// count reads how many of something follow, of which each takes a byte at least.
func (r *reader) count() int {
	n := r.number()
	if n < 0 || n > int64(len(r.rest)) {
		r.failed, r.rest = true, nil
		return 0
	}
	return int(n)
}

func (r *reader) take(n int64) []byte {
	if n < 0 || n > int64(len(r.rest)) {
		r.failed, r.rest = true, nil
		return nil
	}
	taken := r.rest[:n]
	r.rest = r.rest[n:]
	return taken
}

func (r *reader) name() string {
	n := r.number()
	if place := -1 - n; place >= 0 && place < int64(len(short)) {
		return short[place]
	}
	return string(r.take(n))
}

func (r *reader) text() []byte { return r.take(r.number()) }

func (r *reader) float() float32 {
	b := r.take(4)
	if b == nil {
		return 0
	}
	return math.Float32frombits(binary.BigEndian.Uint32(b))
}

func (r *reader) double() float64 {
	b := r.take(8)
	if b == nil {
		return 0
	}
	return math.Float64frombits(binary.BigEndian.Uint64(b))
}

func (r *reader) finding(f *Finding) {
	f.Rule, f.Mode, f.Verdict, f.Measure, f.Text = string(r.text()), string(r.text()), Verdict(r.text()), string(r.text()), string(r.text())
	f.Version, f.Points, f.Window, f.Baseline = int(r.number()), int(r.number()), r.number(), r.number()
	f.Limit, f.Observed = r.double(), r.double()
}

func (r *reader) series(s *series) {
	head := r.take(1)
	if head == nil {
		return
	}
	parts := head[0]
	s.board, s.name = parts&hasBoard != 0, r.name()
	at := int64(0)
	if parts&hasInstants != 0 {
		s.instants = make([]int64, r.count())
		for i := range s.instants {
			at += r.number()
			s.instants[i] = at
		}
	}
	if parts&hasCells != 0 {
		s.cells = make([]cell, r.count())
		for i := range s.cells {
			at += r.number()
			s.cells[i] = cell{at, at + r.number(), r.number()}
		}
	}
	if parts&hasHabit != 0 {
		s.habit = habit{r.number(), r.float(), r.float()}
	}
	if parts&hasRhythm != 0 {
		s.rhythm = rhythm{at + r.number(), r.number(), r.float(), r.float()}
	}
	if parts&hasVoted != 0 {
		s.voted, s.scores = r.number(), r.number()
	}
	if parts&hasTold != 0 {
		s.told, s.toldAt = r.number(), r.float()
	}
}
