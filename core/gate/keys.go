package gate

import (
	"strconv"
	"sync"
	"time"

	"liveops/core/catalog"
)

// Allowance is how much of what a signing key sent its rate has room for.
type Allowance struct {
	Admitted   int           // of the events of the request the first so many may pass; 1 for a read that may
	Limit      Limit         // after this request
	RetryAfter time.Duration // when not all are admitted: until as many of the others as ever pass at once would pass
}

// Admits says whether the event at a place of the request may pass, counted from 0. A key without a limit, nil, admits all.
func (a *Allowance) Admits(place int) bool { return a == nil || place < a.Admitted }

// keyPolicy is the rate of a key: the one of its id, or else the one of its class. It is false where there is none.
func keyPolicy(f catalog.Fairness, id, class string) (p policy, limited bool, err error) {
	rate, limited := f.Keys[id]
	if !limited {
		rate, limited = f.Keys[class]
	}
	if !limited {
		return policy{}, false, nil
	}
	p, err = newPolicy("key", rate)
	return p, true, err
}

// keyCall asks about n events of a key. Its slot is its own: "k." and its id, which no player's id and no digest can be.
func keyCall(p policy, id string, n int, now time.Time) call {
	return call{keyScript, []string{"gate:{k." + id + "}:rate"}, []any{now.UnixMicro(), lead, p.quota, p.interval, n}}
}

// allowance reads the answer of the script.
func (p policy) allowance(answer any, n int) (*Allowance, error) {
	said, err := texts(answer)
	if err != nil {
		return nil, err
	}
	var numbers [3]int64
	for i := range numbers {
		if numbers[i], err = strconv.ParseInt(said[i], 10, 64); err != nil {
			return nil, err
		}
	}
	return p.allow(numbers[0], int64(n), numbers[1], numbers[2]), nil
}

// allow is the allowance of n events of which some were admitted; whole is the state after that.
func (p policy) allow(admitted, n, at, whole int64) *Allowance {
	a := &Allowance{Admitted: int(admitted), Limit: p.limit(whole, at)}
	if admitted < n {
		a.RetryAfter = time.Duration(p.wait(whole, at, min(n-admitted, p.quota))) * time.Microsecond
	}
	return a
}

// localRate is how many events a second Local allows a key for which the catalog has no rate.
const localRate = 1_000

// maxLocal is how many keys Local remembers. A process has far fewer.
const maxLocal = 10_000

// Local limits signing keys in one process, for as long as Redis does not answer: at their rate, or else 1,000 a second. Every
// process has its own count, so that together they let through a multiple of it. It is safe for concurrent use.
type Local struct {
	Catalog func() *catalog.Catalog // the rates of keys
	Now     func() time.Time        // nil: time.Now

	mu   sync.Mutex
	keys map[string]charged
}

// charged is the state of a key's policy.
type charged struct{ whole, latest int64 }

// Take charges n requests or events to a key, as many as its rate has room for.
func (l *Local) Take(keyID, keyClass string, n int) (*Allowance, error) {
	p, limited, err := keyPolicy(l.Catalog().Fairness, keyID, keyClass)
	if err == nil && !limited {
		p, err = newPolicy("key", catalog.Rate{Events: localRate, Per: catalog.Duration(time.Second)})
	}
	if err != nil {
		return nil, err
	}
	now := clock(l.Now).UnixMicro()
	l.mu.Lock()
	defer l.mu.Unlock()
	state, known := l.keys[keyID]
	at := instant(now, state.latest)
	admitted := min(int64(n), p.room(state.whole, at))
	whole := p.charge(state.whole, at, admitted)
	if admitted > 0 || state.whole > whole { // as the scripts do
		if !known {
			l.makeRoom(at)
		}
		l.keys[keyID] = charged{whole, at}
	}
	return p.allow(admitted, int64(n), at, whole), nil
}

// makeRoom forgets the keys whose whole quota is there again when there are too many, and at least the one that is nearest to that.
func (l *Local) makeRoom(at int64) {
	if l.keys == nil {
		l.keys = map[string]charged{}
	}
	if len(l.keys) < maxLocal {
		return
	}
	nearest := ""
	for id, state := range l.keys {
		if state.whole <= at {
			delete(l.keys, id)
		} else if nearest == "" || state.whole < l.keys[nearest].whole {
			nearest = id
		}
	}
	if len(l.keys) >= maxLocal {
		delete(l.keys, nearest)
	}
}
