package azfunc

import "time"

// Hold is how long the answer to a batch that failed is held back after so many deliveries: 1 s after the first, twice as
// long after each one more, and never longer than longest. A blip costs a second, and an outage does not burn deliveries. Where
// nobody told the deliveries, 0, it is longest.
func Hold(longest time.Duration, deliveries int) time.Duration {
	hold := time.Second
	for range deliveries - 1 {
		if hold >= longest {
			break
		}
		hold *= 2
	}
	if deliveries < 1 {
		return longest
	}
	return min(hold, longest)
}

// Outlasts is how long an outage lasts at least before a message becomes a dead letter, where each may be delivered so often:
// the sum of its holds. It holds on any number of replicas, because one at a time has the message, and under load, because of
// a batch the most delivered message counts.
func Outlasts(longest time.Duration, deliveries int) time.Duration {
	var sum time.Duration
	for n := range deliveries {
		sum += Hold(longest, n+1)
	}
	return sum
}
