package host

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/adhocore/gronx"
)

// schedule is when a timer ticks: an NCRONTAB expression in a zone, or a fixed interval.
type schedule struct {
	expression string // empty: every
	every      time.Duration
	zone       *time.Location
}

// cronField is NCRONTAB's alphabet: none of the L, W, # and @daily that other crons know.
var cronField = regexp.MustCompile(`(?i)^([0-9*/,-]|sun|mon|tue|wed|thu|fri|sat|jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)+$`)

func parseSchedule(text string, zone *time.Location) (schedule, error) {
	s := schedule{zone: zone}
	if strings.Contains(text, ":") {
		every, err := parseTimeSpan(text)
		if err == nil && every <= 0 {
			err = errors.New("an interval must be positive")
		}
		s.every = every
		return s, err
	}
	fields := strings.Fields(text)
	if len(fields) != 5 && len(fields) != 6 {
		return s, fmt.Errorf("schedule %q has %d fields, not the 6 of {second} {minute} {hour} {day} {month} {day-of-week}", text, len(fields))
	}
	if len(fields) == 5 {
		fields = append([]string{"0"}, fields...)
	}
	for _, field := range fields {
		if !cronField.MatchString(field) {
			return s, fmt.Errorf("schedule %q: field %q is not NCRONTAB", text, field)
		}
	}
	if fields[3] != "*" && fields[5] != "*" {
		return s, fmt.Errorf("schedule %q: day and day-of-week together mean both on the real host, which is not simulated here", text)
	}
	s.expression = strings.Join(fields, " ")
	if !gronx.IsValid(s.expression) {
		return s, fmt.Errorf("schedule %q is not valid", text)
	}
	if _, err := gronx.NextTickAfter(s.expression, time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC), false); err != nil {
		return s, fmt.Errorf("schedule %q never ticks", text)
	}
	return s, nil
}

// next is the first tick after a moment.
func (s schedule) next(after time.Time) time.Time {
	if s.expression == "" {
		return after.Add(s.every)
	}
	tick, err := gronx.NextTickAfter(s.expression, after.In(s.zone), false)
	if err != nil {
		return after.AddDate(100, 0, 0) // it ticked once, or parseSchedule had refused it
	}
	return tick
}

// frequent says whether some two ticks are less than a minute apart; the host keeps no status of such a timer.
func (s schedule) frequent() bool {
	tick := s.next(time.Date(2024, 1, 1, 0, 0, 0, 0, s.zone))
	for range 10 {
		following := s.next(tick)
		if following.Sub(tick) < time.Minute {
			return true
		}
		tick = following
	}
	return false
}
