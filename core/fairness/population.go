package fairness

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"

	"liveops/core/fault"
)

// population finds scores, and gains of XP, far above what everybody else gets. A player is found once in a period, and again
// when he is further away.
func population() rule {
	return rule{code: fault.Population, version: 1, judge: func(v *view) []Finding {
		if !v.measured || v.crowd.size < int64(v.rule.After) {
			return nil
		}
		var f Finding
		switch z := rounded(v.crowd.z(v.x)); {
		case v.crowd.away > 0 && z >= v.rule.Limit:
			f = Finding{Measure: "deviations_from_population", Limit: v.rule.Limit, Observed: z}
		case v.crowd.away == 0 && v.x > v.crowd.most:
			f = Finding{Measure: "beyond_9999_of_10000", Limit: v.points(v.crowd.most), Observed: float64(v.score)}
		default:
			return nil
		}
		if s := v.known.look(v.subject); s.told == v.period && float32(v.x) <= s.toldAt {
			return nil
		}
		f.Baseline, f.Text = v.crowd.size, fmt.Sprintf("%d, the median is %.0f", v.score, v.points(v.crowd.median))
		return []Finding{f}
	}}
}

// crowd is what everybody scores, on the logarithmic scale.
type crowd struct {
	size   int64   // votes
	median float64 //
	away   float64 // the median distance from the median; 0 where most score alike
	most   float64 // what 9,999 of 10,000 stay below; without so many votes there is no such thing, and it is infinite
}

// z is how many deviations x is above the median. Median and median distance stand where they are whatever a few players do.
// 0.6745 makes them a standard deviation where scores are spread like a bell.
func (c crowd) z(x float64) float64 { return 0.6745 * (x - c.median) / c.away }

// Histogram counts votes by the bin that a score falls into on the logarithmic scale.
type Histogram map[int]int64

// binWidth is 1 % of a score: what the median is exact to.
const binWidth = .01

func binOf(x float64) int { return int(math.Floor(x / binWidth)) }

// middle is the place of a bin on the scale.
func middle(bin int) float64 { return (float64(bin) + .5) * binWidth }

// crowd sums a histogram up.
func (h Histogram) crowd() crowd {
	c := crowd{size: h.votes(), most: math.Inf(1)}
	if c.size == 0 {
		return c
	}
	bins := slices.Sorted(maps.Keys(h))
	c.median = middle(h.at(bins, (c.size+1)/2))
	if most := c.size - c.size/10_000; most < c.size {
		c.most = float64(h.at(bins, most)+1) * binWidth
	}
	distance := func(bin int) float64 { return math.Abs(middle(bin) - c.median) }
	slices.SortFunc(bins, func(a, b int) int { return cmp.Or(cmp.Compare(distance(a), distance(b)), a-b) })
	c.away = rounded(distance(h.at(bins, (c.size+1)/2)))
	return c
}

func (h Histogram) votes() (sum int64) {
	for _, votes := range h {
		sum += votes
	}
	return sum
}

// at is the bin of the vote with this number, counted from 1 in the order of bins.
func (h Histogram) at(bins []int, number int64) int {
	for _, bin := range bins {
		if number -= h[bin]; number <= 0 {
			return bin
		}
	}
	return bins[len(bins)-1]
}
