package host

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"liveops/core/bus"
	"liveops/core/fault"
)

const (
	settleTimeout = 30 * time.Second
	settlers      = 16
	receivePause  = 200 * time.Millisecond
	renewPause    = 10 * time.Millisecond
)

// pump feeds a queue's messages to its function until ctx ends: one batch at a time for cardinality many, up to
// maxConcurrentCalls messages at a time otherwise (contract §6.3). It returns when the last invocation is settled.
func (h *Host) pump(ctx context.Context, f *Function) {
	if f.Many {
		for ctx.Err() == nil {
			if batch := h.gather(ctx, f); len(batch) > 0 {
				h.deliver(context.WithoutCancel(ctx), f, batch)
			}
		}
		return
	}
	var running sync.WaitGroup
	defer running.Wait()
	slots := make(chan struct{}, h.app.serviceBus.MaxConcurrentCalls)
	for ctx.Err() == nil {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		batch := h.receive(ctx, f.Queue, 1)
		if len(batch) == 0 {
			<-slots
			continue
		}
		running.Go(func() {
			defer func() { <-slots }()
			h.deliver(context.WithoutCancel(ctx), f, batch)
		})
	}
}

// gather receives a batch: what there is, or for up to maxBatchWaitTime at least minMessageBatchSize.
func (h *Host) gather(ctx context.Context, f *Function) []bus.Delivery {
	batch := h.receive(ctx, f.Queue, f.batch)
	least := min(h.app.serviceBus.MinMessageBatchSize, f.batch)
	if len(batch) == 0 || len(batch) >= least {
		return batch
	}
	ctx, cancel := context.WithTimeout(ctx, h.app.maxBatchWait)
	defer cancel()
	for len(batch) < least && ctx.Err() == nil {
		batch = append(batch, h.receive(ctx, f.Queue, f.batch-len(batch))...)
	}
	return batch
}

func (h *Host) receive(ctx context.Context, queue string, limit int) []bus.Delivery {
	batch, err := h.options.Bus.Receive(ctx, queue, limit)
	if err != nil && ctx.Err() == nil {
		h.options.Log.Error("receive failed", slog.String("queue", queue), slog.Any("error", err))
		select {
		case <-time.After(receivePause):
		case <-ctx.Done():
		}
	}
	return batch
}

// deliver invokes the function with a batch (of one, for cardinality one) and settles it: all complete or all abandoned.
func (h *Host) deliver(ctx context.Context, f *Function, batch []bus.Delivery) {
	inv := &Invocation{Function: f.Name, Mode: "json", Messages: len(batch)}
	if !f.Many {
		defer h.renew(ctx, f.Queue, batch[0])()
	}
	err := h.invoke(ctx, inv, func(ctx context.Context, inst *instance) error {
		data := h.data(inv)
		actions(data, h.namespace())
		value, err := f.payload(batch, data)
		if err != nil {
			return err
		}
		_, err = h.post(ctx, inst, inv, f.Binding, value, data)
		return err
	})
	if h.worker.ended() {
		return // killed: the locks expire, and the messages come again
	}
	settle, what := h.options.Bus.Abandon, "abandon"
	if err == nil {
		if !f.autoComplete {
			return
		}
		settle, what = h.options.Bus.Complete, "complete"
	}
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	var group errgroup.Group
	group.SetLimit(settlers)
	for _, d := range batch {
		group.Go(func() error {
			if err := settle(ctx, f.Queue, d); err != nil {
				h.options.Log.Warn("settlement failed, the message will come again",
					slog.String("function", f.Name), slog.String("settlement", what), slog.String("message", d.ID), slog.Any("error", err))
			}
			return nil
		})
	}
	_ = group.Wait() // its functions give no error
}

// renewer is what a bus may be able to do besides: hold a delivery for longer.
type renewer interface {
	Renew(ctx context.Context, queue string, d bus.Delivery) (time.Time, error)
}

// renew holds the lock of a message that a function takes alone, for five minutes at most, until the function it gives is
// called. A batch's locks are never renewed (contract §6.1).
func (h *Host) renew(ctx context.Context, queue string, d bus.Delivery) (stop func()) {
	locks, ok := h.options.Bus.(renewer)
	if !ok || d.LockedUntil.IsZero() {
		return func() {}
	}
	ctx, cancel := context.WithTimeout(ctx, h.app.renewal)
	go func() {
		until := d.LockedUntil
		for {
			select {
			case <-time.After(max(until.Sub(h.options.Now())/2, renewPause)):
			case <-ctx.Done():
				return
			}
			renewed, err := locks.Renew(ctx, queue, d)
			switch {
			case err == nil:
				until = renewed
			case !errors.Is(err, fault.Unavailable) || !h.options.Now().Before(until):
				return // lost or settled: the settlement finds out
			}
		}
	}()
	return cancel
}

// payload is the trigger value of a batch, with what is known of the messages written into data.
func (f *Function) payload(batch []bus.Delivery, data bindingData) (any, error) {
	if f.Many {
		return f.many(batch, data)
	}
	return f.single(batch[0], data), nil
}

// namespace is the one of the first connection that names it.
func (h *Host) namespace() string {
	if name := h.app.getenv("SERVICEBUS__fullyQualifiedNamespace"); name != "" {
		return name
	}
	return "localhost"
}
