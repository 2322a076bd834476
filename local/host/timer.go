package host

import (
	"context"
	"time"
)

// tick runs a timer function at every tick of its schedule until ctx ends. It runs once at a time; ticks that pass meanwhile
// collapse into none, and a failure is not repeated before the next tick (contract §7).
func (h *Host) tick(ctx context.Context, f *Function) {
	now := h.options.Now
	var status *scheduleStatus
	if f.monitored {
		status = &scheduleStatus{}
	}
	run := func(due time.Time) {
		if status != nil {
			status.Next = dateTimeOffset(due.In(h.app.zone))
		}
		_ = h.fire(context.WithoutCancel(ctx), f, status) // the invocation reported it
		if status != nil {
			at := dateTimeOffset(now().In(h.app.zone))
			status.Last, status.LastUpdated = at, at
		}
	}
	var last time.Time
	if f.runOnStartup {
		run(now())
	}
	for {
		after := now()
		if after.Before(last) {
			after = last // a wait that ended early must not give the same tick twice
		}
		last = f.plan.next(after)
		select {
		case <-h.options.After(last.Sub(now())):
			run(last)
		case <-ctx.Done():
			return
		}
	}
}

// scheduleStatus is what the host keeps of a monitored timer; before the first run its times are those of year 1.
type scheduleStatus struct {
	Last        dateTimeOffset
	Next        dateTimeOffset
	LastUpdated dateTimeOffset
}

// fire invokes a timer function once (contract §3.6).
func (h *Host) fire(ctx context.Context, f *Function, status *scheduleStatus) error {
	timer := object(compact(map[string]any{
		"Schedule":       map[string]any{"AdjustForDST": f.plan.expression != ""},
		"ScheduleStatus": status,
		"IsPastDue":      false,
	}))
	inv := &Invocation{Function: f.Name, Mode: "json"}
	return h.invoke(ctx, inv, func(ctx context.Context, inst *instance) error {
		_, err := h.post(ctx, inst, inv, f.Binding, timer, h.data(inv))
		return err
	})
}
