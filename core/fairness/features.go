package fairness

import (
	"crypto/sha256"
	"math/bits"
	"slices"
	"time"

	"liveops/core/event"
	"liveops/core/fault"
)

// The bounds of what is kept of a player.
const (
	rememberedLeast = 32  // judged events that are remembered in any case,
	rememberedMost  = 512 // and of those that were judged in this hour and the one before
	instantsMost    = 16  // events of a type with an interval
	cellsMost       = 128 // cells of points on a board
)

// lateness is how late an event may come and still be compared with all that counted around it.
const lateness = 2 * time.Minute

// retention is how long a player is known after his last event.
const retention = 30 * 24 * time.Hour

// features is what is known of one player: which of his events were judged, and for everything he does some numbers of a
// bounded size. The mark aside, the zero value is somebody of whom nothing is known.
type features struct {
	mark    mark
	hour    int64        // when an event was last judged, in hours
	lately  [2]int       // how many events were judged in that hour, and in the one before
	judged  []byte       // digests of judged events, the oldest first
	notable []remembered // those of them that have findings
	series  []series
}

// remembered is a judged event.
type remembered struct {
	digest   digest
	at       int64 // ms
	version  int   // of the catalog
	findings []Finding
}

// subject is what a player does again and again: submit scores on a board, or events of another type.
type subject struct {
	board bool // the name is a board's
	name  string
}

// String writes a board as #board; no event type begins so.
func (s subject) String() string {
	if s.board {
		return "#" + s.name
	}
	return s.name
}

// series is what is known of a player and a subject.
type series struct {
	subject
	instants []int64 // when the latest counted, in ms, by time: where the catalog sets an interval
	cells    []cell  // points gathered, by time: where the catalog sets a velocity
	habit    habit
	rhythm   rhythm
	voted    int64   // the last period, in minutes, in which the player had a say in the baseline,
	scores   int64   // and how many scores he has had in it
	told     int64   // the last period, in minutes, in which the player was found far from the population,
	toldAt   float32 // and how far
}

// of gives the series of a subject; it is valid until the next call.
func (f *features) of(s subject) *series {
	for i := range f.series {
		if f.series[i].subject == s {
			return &f.series[i]
		}
	}
	f.series = append(f.series, series{subject: s})
	return &f.series[len(f.series)-1]
}

// look gives what is known of a subject, for somebody who only reads.
func (f *features) look(s subject) series {
	for i := range f.series {
		if f.series[i].subject == s {
			return f.series[i]
		}
	}
	return series{}
}

// digest names one of a player's events.
type digest [5]byte

// digest is keyed by the mark, which nobody outside knows: whoever could make two ids with one digest could pass a second
// event off as one that was judged already.
func (f *features) digest(id string) (d digest) {
	var room [saltSize + event.MaxID]byte
	sum := sha256.Sum256(append(append(room[:0], f.mark[:saltSize]...), id...))
	copy(d[:], sum[:])
	return d
}

// recall gives what was found on an event, if it was judged before.
func (f *features) recall(d digest) (remembered, bool) {
	for i := len(f.judged) - len(d); i >= 0; i -= len(d) {
		if digest(f.judged[i:i+len(d)]) != d {
			continue
		}
		for _, r := range f.notable {
			if r.digest == d {
				return r, true
			}
		}
		return remembered{digest: d}, true
	}
	return remembered{}, false
}

// remember keeps what was found on an event judged now, and forgets the oldest of too many.
func (f *features) remember(r remembered, now time.Time) {
	if hour := now.Unix() / 3600; hour > f.hour {
		before := 0
		if hour == f.hour+1 {
			before = f.lately[0]
		}
		f.hour, f.lately = hour, [2]int{0, before}
	}
	f.lately[0] = min(f.lately[0]+1, rememberedMost)
	f.judged = append(f.judged, r.digest[:]...)
	if len(r.findings) > 0 {
		f.notable = append(f.notable, r)
	}
	keep := min(max(f.lately[0]+f.lately[1], rememberedLeast), rememberedMost)
	for forget := len(f.judged)/len(r.digest) - keep; forget > 0; forget-- {
		if len(f.notable) > 0 && f.notable[0].digest == digest(f.judged[:len(r.digest)]) {
			f.notable = f.notable[1:]
		}
		f.judged = f.judged[len(r.digest):]
	}
}

// count takes an event that has an effect into the statistics that some rule looks at. It says whether the player has a say in the
// baseline with it: he has with fewer and fewer of his scores, so that those of a whole day are heard, and nobody's count for much.
func (f *features) count(v *view, p *policy, found []Finding) (bin int, has bool) {
	at := v.At.UnixMilli()
	if every := v.game.Events[v.Type].Every.Std(); every > 0 {
		f.of(subject{name: v.Type}).happened(at, (every + lateness).Milliseconds())
	}
	s := f.of(v.subject)
	if p.timed {
		s.rhythm = s.rhythm.with(at).turn(p.beats)
	}
	if limited(v) {
		s.gathered(at, max(v.score, 0))
	}
	if v.board && p.habits {
		s.habit = s.habit.with(v.x)
	}
	if slices.ContainsFunc(found, func(f Finding) bool { return f.Rule == string(fault.Population) }) {
		s.told, s.toldAt = v.period, float32(v.x)
	}
	if !v.measured || !p.compared || v.period < s.voted {
		return 0, false
	}
	if v.period > s.voted {
		s.voted, s.scores = v.period, 0
	}
	s.scores++
	return binOf(v.x), bits.OnesCount64(uint64(s.scores)) == 1 // the 1st, 2nd, 4th, 8th and so on
}

// happened adds an instant, and forgets those that nothing will be compared with.
func (s *series) happened(at, reach int64) {
	i, _ := slices.BinarySearch(s.instants, at)
	s.instants = slices.Insert(s.instants, i, at)
	first := max(0, len(s.instants)-instantsMost)
	for s.instants[first] < s.instants[len(s.instants)-1]-reach {
		first++
	}
	s.instants = s.instants[first:]
}
