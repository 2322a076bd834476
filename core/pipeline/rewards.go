package pipeline

import (
	"context"
	"slices"
	"time"

	"liveops/core/catalog"
	"liveops/core/event"
	"liveops/core/mailbox"
	"liveops/core/progression"
	"liveops/core/receipt"
	"liveops/core/season"
	"liveops/core/store"
)

// Rewards gives players what their places in windows bring: at once, or through the mailbox when they claim it. Either way it
// is an event under one id for the window, whose effect the ledger gives each player once.
type Rewards struct {
	Catalog  func() *catalog.Catalog
	Ledger   *progression.Ledger
	Players  *progression.Cache
	Receipts func() *receipt.Keys // those in force
	Mailbox  *mailbox.Mailbox
	Metrics  *Metrics
	Now      func() time.Time
}

// rewardChunk is how many wins are granted in one transaction.
const rewardChunk = 500

// Grant grants what places of an archived window bring, and sends mails for what is to be claimed. It may be called with the same wins
// again, with some of them or with others', by several at the same time, and be cut anywhere: every player has one reward of
// a window, and the first that takes effect stays, whatever the catalog says by then. The wins of one call are of
// different players.
func (r *Rewards) Grant(ctx context.Context, h season.Header, wins []season.Win) error {
	id := progression.RewardID(h.Board, h.ID)
	for some := range slices.Chunk(wins, rewardChunk) {
		var mails []mailbox.Mail
		var events []event.Accepted
		for _, w := range some {
			if !event.ValidPlayerID(w.Player) { // an alias: who won was erased
				continue
			}
			if w.Tier.Claim {
				mails = append(mails, mailbox.Mail{
					PlayerID: w.Player, ID: id, Source: mailbox.FromWindow, Board: h.Board, Window: h.ID, Rank: w.Rank, TiedRank: w.TiedRank,
					XP: w.Tier.XP, Items: w.Tier.Items,
				})
				continue
			}
			reward := progression.Reward{Board: h.Board, Window: h.ID, Rank: w.Rank, XP: w.Tier.XP, Items: w.Tier.Items}
			events = append(events, reward.Event(id, w.Player, r.Now()))
		}
		sent, err := r.Mailbox.Send(ctx, mails, r.Catalog().Rewards.Claim.Std())
		r.Metrics.RewardsGranted.WithLabelValues(rewardInMailbox).Add(float64(sent))
		if err != nil {
			return err
		}
		if err := r.grant(ctx, events); err != nil {
			return err
		}
	}
	return nil
}

// grant grants rewards at once.
func (r *Rewards) grant(ctx context.Context, rewards []event.Accepted) error {
	if len(rewards) == 0 {
		return nil
	}
	effects, err := r.apply(ctx, rewards, func(*store.Tx, []*progression.Effect) error { return nil })
	if err != nil {
		return err
	}
	fresh, _ := counted(effects)
	r.Metrics.RewardsGranted.WithLabelValues(rewardInLedger).Add(float64(fresh))
	return r.Players.Forget(ctx, players(rewards))
}

// apply gives rewards their effect: it, the receipts, the mails it sends and what also does are one transaction.
func (r *Rewards) apply(
	ctx context.Context, rewards []event.Accepted, also func(tx *store.Tx, effects []*progression.Effect) error,
) ([]*progression.Effect, error) {
	effects, err := r.Ledger.Apply(ctx, rewards, func(tx *store.Tx, effects []*progression.Effect) error {
		if err := also(tx, effects); err != nil {
			return err
		}
		issued, err := sign(r.Receipts(), effects)
		if err != nil {
			return err
		}
		if err := receipt.Store(ctx, tx, issued); err != nil {
			return err
		}
		return r.Mailbox.SendIn(ctx, tx, mails(effects), r.Catalog().Rewards.Claim.Std())
	})
	if err != nil {
		return nil, err
	}
	_, receipts := counted(effects)
	r.Metrics.ReceiptsIssued.Add(float64(receipts))
	return effects, nil
}
