package azfunc

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestHold(t *testing.T) {
	t.Parallel()
	const s = time.Second
	for _, test := range []struct {
		longest time.Duration
		want    []time.Duration // after 0 deliveries, 1, 2, …
	}{
		{30 * s, []time.Duration{30 * s, s, 2 * s, 4 * s, 8 * s, 16 * s, 30 * s, 30 * s}},
		{32 * s, []time.Duration{32 * s, s, 2 * s, 4 * s, 8 * s, 16 * s, 32 * s, 32 * s}},
		{1500 * time.Millisecond, []time.Duration{1500 * time.Millisecond, s, 1500 * time.Millisecond}},
		{50 * time.Millisecond, []time.Duration{50 * time.Millisecond, 50 * time.Millisecond, 50 * time.Millisecond}},
		{0, []time.Duration{0, 0, 0}},
	} {
		for deliveries, want := range test.want {
			require.Equal(t, want, Hold(test.longest, deliveries), "%s after %d deliveries", test.longest, deliveries)
		}
		require.Equal(t, test.longest, Hold(test.longest, math.MaxInt))
		require.Equal(t, test.longest, Hold(test.longest, -1))
	}
}

func TestOutlasts(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		longest    time.Duration
		deliveries int
		want       time.Duration
	}{
		{30 * time.Second, 0, 0},
		{30 * time.Second, 1, time.Second},
		{30 * time.Second, 6, 61 * time.Second},
		{30 * time.Second, 10, 181 * time.Second},
		{30 * time.Second, 100, 2881 * time.Second},
		{time.Second, 100, 100 * time.Second},
		{0, 100, 0},
	} {
		t.Run(fmt.Sprint(test.longest, "×", test.deliveries), func(t *testing.T) {
			t.Parallel()
			require.Equal(t, test.want, Outlasts(test.longest, test.deliveries))
		})
	}
}
