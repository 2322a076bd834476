package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"liveops/local/servicebus"
	"liveops/local/wire"
)

// killer breaks one thing after the other, and some of what passes the broker all the time. What it does and when follows
// from its seed.
type killer struct {
	site  *site
	pods  []*pod
	tally *tally
	rng   *rand.Rand
	say   func(format string, args ...any)
	flaw  flaw
}

// run breaks things until ctx ends. It leaves everything mended.
func (k *killer) run(ctx context.Context) error {
	began := time.Now()
	k.site.endpoint.Fail(k.flaw.fault)
	defer k.site.endpoint.Fail(nil)
	actions := []struct {
		name   string
		weight int
		do     func(ctx context.Context) error
	}{
		{"kill a handler", 12, k.handler},
		{"kill a pod", 2, k.wholePod},
		{"wipe Redis", 3, k.wipe},
		{"kill MySQL", 2, func(ctx context.Context) error {
			k.tally.sqlKills.Add(1)
			k.site.sql.Kill()
			return k.site.sql.Start(ctx)
		}},
		{"stop MySQL", 1, k.stopSQL},
		{"cut MySQL", 2, func(ctx context.Context) error { return k.cut(ctx, k.site.toSQL) }},
		{"cut Redis", 2, func(ctx context.Context) error { return k.cut(ctx, k.site.toCache) }},
		{"cut the broker", 2, func(ctx context.Context) error { return k.cut(ctx, k.site.toBroker) }},
		{"fail what is sent", 4, k.sends},
	}
	whole := 0
	for _, a := range actions {
		whole += a.weight
	}
	lasting := context.WithoutCancel(ctx) // what was broken is mended, however late it is
	for {
		wait, at := time.Duration(200+k.rng.IntN(1300))*time.Millisecond, k.rng.IntN(whole)
		if pause(ctx, wait) != nil {
			return nil //nolint:nilerr // the time is over
		}
		for _, a := range actions {
			if at -= a.weight; at >= 0 {
				continue
			}
			k.say("    %s %s", since(began), a.name)
			if err := a.do(lasting); err != nil {
				return fmt.Errorf("%s: %w", a.name, err)
			}
			break
		}
	}
}

func (k *killer) any() *pod { return k.pods[k.rng.IntN(len(k.pods))] }

func (k *killer) handler(context.Context) error {
	if k.site.lives.kill("handler" + k.any().name) {
		k.tally.handlerKills.Add(1)
	}
	return nil
}

func (k *killer) wholePod(context.Context) error {
	if k.any().kill() {
		k.tally.podKills.Add(1)
	}
	return nil
}

// wipe has Redis come back with nothing in it.
func (k *killer) wipe(ctx context.Context) error {
	k.tally.cacheWipes.Add(1)
	k.site.cache.Kill()
	if err := pause(ctx, time.Duration(k.rng.IntN(500))*time.Millisecond); err != nil {
		return err
	}
	return k.site.cache.Start(ctx)
}

// stopSQL is a restart for maintenance.
func (k *killer) stopSQL(ctx context.Context) error {
	k.tally.sqlStops.Add(1)
	grace, stop := context.WithTimeout(ctx, 20*time.Second)
	defer stop()
	k.site.sql.Stop(grace)
	if err := pause(ctx, time.Duration(1000+k.rng.IntN(3000))*time.Millisecond); err != nil {
		return err
	}
	return k.site.sql.Start(ctx)
}

func (k *killer) cut(ctx context.Context, w *wire.Wire) error {
	k.tally.cuts.Add(1)
	w.Cut()
	defer w.Mend()
	return pause(ctx, time.Duration(k.rng.IntN(800))*time.Millisecond)
}

// sends has the broker fail everything that is sent to it, for so long that no retry helps.
func (k *killer) sends(ctx context.Context) error {
	k.flaw.set(faultKinds[k.rng.IntN(len(faultKinds))])
	defer k.flaw.set(servicebus.None)
	return pause(ctx, time.Duration(500+k.rng.IntN(1500))*time.Millisecond)
}

// How many operations of the broker there are for each that goes wrong. Of settlements there is one a message.
const (
	rare           = 40
	rareSettlement = 800
)

// faultKinds are the ways to go wrong, all as likely.
var faultKinds = []servicebus.FaultKind{servicebus.Refuse, servicebus.Detach, servicebus.Drop, servicebus.DropAfter}

// flaw makes operations of the broker go wrong. It is safe for concurrent use.
type flaw struct {
	tally *tally

	mu    sync.Mutex
	rng   *rand.Rand
	sends servicebus.FaultKind // what goes wrong with everything that is sent
}

func (f *flaw) set(sends servicebus.FaultKind) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sends = sends
}

// fault is what goes wrong with an operation.
func (f *flaw) fault(o servicebus.Operation) servicebus.Fault {
	share := rare
	if o.Name == servicebus.OpComplete || o.Name == servicebus.OpAbandon {
		share = rareSettlement
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	kind := servicebus.None
	switch {
	case o.Name == servicebus.OpSend && f.sends != servicebus.None:
		kind = f.sends
	case f.rng.IntN(share) == 0:
		kind = faultKinds[f.rng.IntN(len(faultKinds))]
	}
	f.tally.faults[kind].Add(1)
	return servicebus.Fault{Kind: kind}
}
