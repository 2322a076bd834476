// Package pipeline is the path of an event, a file per stage:
//
//	Gateway      a signed request → the queue "events"           (gateway.go)
//	Fairness     the queue "events" → the queue "progression"    (fairness.go)
//	Progression  the queue "progression" → SQL, then Redis       (progression.go)
//	Archive      a timer: windows that ended → the archive       (archive.go)
//	Rewards      a window's final order → SQL, then Redis        (rewards.go)
//	             a player: what waits in the mailbox → the same  (mailbox.go)
//	Backlog      a timer: what waits in queues → metrics         (backlog.go)
//	Redrive      a timer: dead letters → SQL, their queue again  (redrive.go)
//	Release      an operator: a rejection → a queue again        (release.go)
//	Cases        an operator: cases, bans                        (cases.go)
//	Exports      a player: everything that is held on him        (export.go)
//	Erasures     a timer: players who are to be forgotten        (erase.go)
//
// Sanctions (sanctions.go) carries to Redis who is kept out or hidden, and Restore (restore.go) what Redis lost.
//
// It is the only place that sees several domains, and the tour of the system: each stage is one function that reads from
// top to bottom. Every stage may see a message twice, in any order, and may be cut at any instruction; what makes that
// harmless stands in the domain it calls. It knows nothing of HTTP, of the Functions host or of any driver.
//
// The fate of a message follows from the kind of its fault. What can never succeed goes to the rejected store and counts
// as handled; a dependency that is down fails the whole batch, which the broker delivers again.
package pipeline

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"liveops/core/bus"
	"liveops/core/event"
	"liveops/core/fairness"
	"liveops/core/fault"
	"liveops/core/rejected"
	"liveops/core/season"
	"liveops/core/tracing"
)

// Outcome is what a stage did with a batch, for the one log line of its invocation.
type Outcome []slog.Attr

// Metrics are the counters of the path. Labels come from closed sets: codes, verdicts, rules.
type Metrics struct {
	Dropped            *prometheus.CounterVec // reason
	AnomalyFlags       *prometheus.CounterVec // rule, mode
	Decisions          *prometheus.CounterVec // verdict
	DecisionTime       prometheus.Histogram
	CasesOpened        prometheus.Counter
	ProgressionEvents  *prometheus.CounterVec // result
	ReceiptsIssued     prometheus.Counter
	Reversals          prometheus.Counter
	RewardsGranted     *prometheus.CounterVec // delivery
	MailsClaimed       prometheus.Counter
	LeaderboardUpdates prometheus.Counter
	EventToRank        prometheus.Histogram
	WindowCloses       prometheus.Counter
	WindowFailures     prometheus.Counter
	Windows            *prometheus.GaugeVec // state
	WindowOverdue      prometheus.Gauge
	SeasonEnds         prometheus.Gauge
	QueueMessages      *prometheus.GaugeVec   // queue, state
	QueueAge           *prometheus.GaugeVec   // queue, state
	DeadLetters        *prometheus.CounterVec // fate
	LedgerDrift        prometheus.Gauge
	LeaderboardDrift   prometheus.Gauge
	ArchiveMismatch    prometheus.Gauge
	Erasures           *prometheus.CounterVec // result
}

// The values of labels.
const (
	eventApplied  = "applied"
	eventRepeated = "repeated"
	eventInvalid  = "invalid"

	rewardInLedger  = "ledger"
	rewardInMailbox = "mailbox"

	letterRedriven = "redriven"
	letterGivenUp  = "given-up"

	erasureErased    = "erased"
	erasureRepeated  = "repeated"
	erasureForgotten = "forgotten"
	erasureLeft      = "left"
	erasureFailed    = "failed"
)

// dropping lists why accepted events have no effect.
func dropping() []fault.Code { return append(fairness.Dropping(), fault.MessageInvalid) }

// texts gives a closed set as the values of a label.
func texts[T ~string](set []T) []string {
	values := make([]string, len(set))
	for i, member := range set {
		values[i] = string(member)
	}
	return values
}

// NewMetrics registers the metrics of the path, of which some are of each of the queues.
func NewMetrics(registerer prometheus.Registerer, queues ...string) *Metrics {
	f := promauto.With(registerer)
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return f.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	vector := func(name, help, label string, values ...string) *prometheus.CounterVec {
		v := f.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
		for _, value := range values {
			v.WithLabelValues(value) // a rate needs the 0 before the first
		}
		return v
	}
	ofQueues := func(name, help string) *prometheus.GaugeVec {
		v := f.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, []string{"queue", "state"})
		for _, queue := range queues {
			v.WithLabelValues(queue, messageActive)
			v.WithLabelValues(queue, messageDead)
		}
		return v
	}
	windows := f.NewGaugeVec(prometheus.GaugeOpts{Name: "windows", Help: "Windows of all boards, by state."}, []string{"state"})
	for _, state := range season.States() {
		windows.WithLabelValues(string(state))
	}
	flags := f.NewCounterVec(prometheus.CounterOpts{
		Name: "anomaly_flags_total", Help: "Limits that events broke, by rule and the rule's mode.",
	}, []string{"rule", "mode"})
	for _, rule := range fairness.Codes() {
		for _, mode := range fairness.Modes() {
			flags.WithLabelValues(string(rule), mode)
		}
	}
	return &Metrics{
		Dropped:      vector("dropped_events_total", "Accepted events that had no effect, by reason.", "reason", texts(dropping())...),
		AnomalyFlags: flags,
		Decisions:    vector("fairness_decisions_total", "Verdicts of the fairness ladder.", "verdict", texts(fairness.Verdicts())...),
		DecisionTime: f.NewHistogram(prometheus.HistogramOpts{
			Name: "fairness_decision_seconds", Help: "Time it took to judge a batch.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}),
		CasesOpened: counter("cases_opened_total", "Cases opened by the rules or by operators."),
		ProgressionEvents: vector("progression_events_total", "Events that reached progression: applied, repeated or invalid.", "result",
			eventApplied, eventRepeated, eventInvalid),
		ReceiptsIssued: counter("receipts_issued_total", "Receipts signed and stored."),
		Reversals:      counter("reversals_total", "Events whose effect operators took back."),
		RewardsGranted: vector("rewards_granted_total",
			"Rewards of places in windows that were granted at once (ledger) or sent to be claimed (mailbox).", "delivery",
			rewardInLedger, rewardInMailbox),
		MailsClaimed:       counter("mails_claimed_total", "Mails whose reward was claimed."),
		LeaderboardUpdates: counter("leaderboard_updates_total", "Entries projected to the rankings."),
		EventToRank: f.NewHistogram(prometheus.HistogramOpts{
			Name: "event_to_rank_seconds", Help: "Time from the gateway's receipt of a score to its visible rank.",
			Buckets: []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300},
		}),
		WindowCloses: counter("window_closes_total", "Steps of windows from open to purged."),
		Windows:      windows,
		WindowOverdue: gauge("window_close_overdue_seconds",
			"How long ago the most overdue step of a window was due, up to its rewards; 0 when none is."),
		SeasonEnds:     gauge("season_ends_timestamp_seconds", "When the season that runs ends, in Unix time; 0 when none runs."),
		WindowFailures: counter("window_close_failures_total", "Steps of windows that failed and will be tried again."),
		QueueMessages: ofQueues("queue_messages",
			"Messages that can be received or are held (active), or are dead letters (dead), counted up to 1000."),
		QueueAge:    ofQueues("queue_oldest_message_age_seconds", "How long ago the oldest of these messages came into its queue; 0 without any."),
		DeadLetters: vector("dead_letters_total", "Dead letters seen by the redrive: redriven or given up.", "fate", letterRedriven, letterGivenUp),
		LedgerDrift: gauge("ledger_drift_players",
			"Players of the last sample whose balances are not the sum of their ledger rows."),
		LeaderboardDrift: gauge("leaderboard_drift_entries",
			"Entries of the last sample that Redis held otherwise than SQL, or not at all."),
		ArchiveMismatch: gauge("archive_mismatch_entries",
			"Entries of the archives made last that were served otherwise before."),
		Erasures: vector("erasures_total",
			"Passes over players who are to be forgotten: the first to leave nothing (erased), later ones (repeated), the last (forgotten), and those that have to come again (left, failed).",
			"result", erasureErased, erasureRepeated, erasureForgotten, erasureLeft, erasureFailed),
	}
}

// rejector is the part of the rejected store that stages write to.
type rejector interface {
	Put(ctx context.Context, rejections []rejected.Rejection) error
}

// decode reads the accepted events of a batch. A message that is none is set aside for the rejected store, so that it
// never blocks its batch. So is one that claims to be a reward: those are made behind the queues and carry what they are worth, and
// whoever could send one could grant himself anything.
func decode(stage string, batch []bus.Message) (events []event.Accepted, trace map[string]string, aside []rejected.Rejection) {
	trace = make(map[string]string, len(batch))
	for _, m := range batch {
		e, err := event.DecodeAccepted(m.Body)
		if err == nil && (e.Type == event.RewardGranted || e.Type == event.EventReversed) {
			err = fault.MessageInvalid.Errorf("no %s comes through a queue", e.Type)
		}
		if err != nil {
			aside = append(aside, rejected.Rejection{
				Stage: stage, MessageID: m.ID, Code: fault.CodeOf(err), Detail: err.Error(), Body: m.Body,
			})
			continue
		}
		events = append(events, e)
		if parent := m.Properties[tracing.Property]; parent != "" {
			trace[e.Identity()] = parent
		}
	}
	return events, trace, aside
}

// tell logs what became of each event of a batch, in words of the stage, where that much is asked for. It names the event and
// its trace, and never the player.
func tell(ctx context.Context, log *slog.Logger, what string, trace map[string]string, events []event.Accepted, about func(i int) []slog.Attr) {
	if !log.Enabled(ctx, slog.LevelDebug) {
		return
	}
	for i, e := range events {
		attrs := append([]slog.Attr{slog.String("event_id", e.ID), slog.String("type", e.Type)}, about(i)...)
		if id := tracing.TraceID(tracing.Continue(context.Background(), trace[e.Identity()])); id != "" { // not that of the batch
			attrs = append(attrs, slog.String("trace_id", id))
		}
		log.LogAttrs(ctx, slog.LevelDebug, what, attrs...)
	}
}

// derivedID is the id of a message that is sent once more: the same for the same id and occasion, and unlike the id itself.
func derivedID(kind, id, occasion string) string {
	sum := sha256.Sum256([]byte(id + "\n" + occasion))
	return kind + "-" + hex.EncodeToString(sum[:16])
}

// messages wraps events for the next queue. The id is the event's identity, so that the broker can drop repeats.
func messages(events []event.Accepted, trace map[string]string) ([]bus.Message, error) {
	out := make([]bus.Message, len(events))
	for i, e := range events {
		body, err := e.Encode()
		if err != nil {
			return nil, err
		}
		out[i] = bus.Message{ID: e.Identity(), Body: body, ContentType: "application/json"}
		if parent := trace[e.Identity()]; parent != "" {
			out[i].Properties = map[string]string{tracing.Property: parent}
		}
	}
	return out, nil
}

// publish sends messages to the next queue. Those that belong to the trace of ctx go on from the span of their sending.
func publish(ctx context.Context, to bus.Publisher, queue string, out []bus.Message) error {
	sender := tracing.Traceparent(ctx)
	ctx, end := tracing.Start(ctx, "publish "+queue, trace.SpanKindProducer,
		attribute.String("messaging.system", "servicebus"), attribute.String("messaging.operation.type", "send"),
		attribute.String("messaging.destination.name", queue), attribute.Int("messaging.batch.message_count", len(out)))
	if here := tracing.Traceparent(ctx); here != sender {
		for _, m := range out {
			if m.Properties[tracing.Property] == sender {
				m.Properties[tracing.Property] = here
			}
		}
	}
	err := to.Publish(ctx, queue, out)
	end(err)
	return err
}
