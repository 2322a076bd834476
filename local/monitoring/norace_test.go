//go:build !race

package monitoring_test

// raced says whether the race detector is at work.
const raced = false
