package replay

import (
	"math"
	"slices"
	"sync"
	"time"
)

// Report says what became of the events.
type Report struct {
	Accepted  int
	Duplicate int
	Rejected  map[string]int // by code
	Throttled int            // how often an event was told to wait
	Retried   int            // requests sent again
	Elapsed   time.Duration

	mu        sync.Mutex // while playing
	latencies []time.Duration
}

func (r *Report) settled(res result) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch res.Status {
	case "accepted":
		r.Accepted++
	case "duplicate":
		r.Duplicate++
	default:
		r.Rejected[res.Code]++
	}
}

func (r *Report) throttled() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Throttled++
}

func (r *Report) retried() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Retried++
}

func (r *Report) answered(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.latencies = append(r.latencies, d)
}

// Events is how many events were settled: accepted, duplicate or rejected.
func (r *Report) Events() int {
	n := r.Accepted + r.Duplicate
	for _, rejected := range r.Rejected {
		n += rejected
	}
	return n
}

// Rate is the number of events settled a second.
func (r *Report) Rate() float64 { return float64(r.Events()) / max(r.Elapsed.Seconds(), 1e-9) }

// Latency is the time within which the fraction q, 0 to 1, of the answered requests were answered.
func (r *Report) Latency(q float64) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.latencies) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(r.latencies))
	return sorted[max(0, int(math.Ceil(q*float64(len(sorted))))-1)]
}
