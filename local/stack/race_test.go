//go:build race

package stack_test

// raced says whether the race detector is at work.
const raced = true
