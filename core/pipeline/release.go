package pipeline

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"liveops/core/bus"
	"liveops/core/event"
	"liveops/core/fairness"
	"liveops/core/fault"
	"liveops/core/rejected"
)

// Release puts a rejected event back on its way, because an operator says that it should not have been rejected.
type Release struct {
	Rejected  releasable
	Records   *fairness.Records
	Sanctions *Sanctions
	Bus       bus.Publisher
	Queue     string   // where what the fairness stage rejected goes on: behind it, which would only judge it the same again
	Origins   []string // the queues whose dead letters the redrive may have given up, which go back there
}

// releasable is the part of the rejected store that a release reads and marks. The first mark of a rejection stays.
type releasable interface {
	Get(ctx context.Context, id string) (rejected.Rejection, error)
	MarkReleased(ctx context.Context, id, queue, by string) (rejected.Rejection, error)
}

// Event sends the event of a rejection to its queue, marks the rejection as released by the key with id by, and gives it as
// it then is. One that is released already is given as it is. It is sent before it is marked: a crash between the two is
// mended by releasing it again, which sends it under the same message id, and the ledger takes an event once.
//
// The block that came from this very decision ends; a ban, or a block by another decision, stays. A repeat does what is left of
// this too.
//
// An id that is nobody's is fault.RejectedNotFound, and what is no event, or has no queue to go to, is fault.NotReleasable.
func (r *Release) Event(ctx context.Context, id, by string) (rejected.Rejection, error) {
	found, err := r.Rejected.Get(ctx, id)
	if err != nil {
		return rejected.Rejection{}, err
	}
	if found.Release.At.IsZero() {
		if found, err = r.send(ctx, found, by); err != nil {
			return rejected.Rejection{}, err
		}
	}
	if decision := Decided(found); decision != "" {
		player, err := r.Records.LiftBlock(ctx, decision)
		if err != nil {
			return rejected.Rejection{}, err
		}
		if player != "" {
			if err := r.Sanctions.Replace(ctx, player); err != nil {
				return rejected.Rejection{}, err
			}
		}
	}
	return found, nil
}

// Decided is the id of the decision that a rejection came from; empty if it came from none.
func Decided(r rejected.Rejection) string {
	if r.Stage != "fairness" || r.EventID == "" {
		return ""
	}
	return fairness.DecisionID(r.PlayerID, r.EventID)
}

// Dropped is the id of the rejection that came from a decision; empty if none did.
func Dropped(d fairness.Decision) string {
	if !d.Drops() {
		return ""
	}
	e := event.Event{PlayerID: d.PlayerID, ID: d.EventID}
	return rejected.ID(rejected.Rejection{Stage: "fairness", MessageID: e.Identity()})
}

// send sends a rejection on its way and marks it.
func (r *Release) send(ctx context.Context, found rejected.Rejection, by string) (rejected.Rejection, error) {
	queue, err := r.queue(found)
	if err != nil {
		return rejected.Rejection{}, err
	}
	again := bus.Message{ID: releaseID(found.ID), Body: found.Body, ContentType: "application/json"}
	if err := r.Bus.Publish(ctx, queue, []bus.Message{again}); err != nil {
		return rejected.Rejection{}, fmt.Errorf("release rejected message: %w", err)
	}
	return r.Rejected.MarkReleased(ctx, found.ID, queue, by)
}

// queue says where a rejection goes when it is released.
func (r *Release) queue(found rejected.Rejection) (string, error) {
	_, unreadable := event.DecodeAccepted(found.Body)
	queue := origin(found)
	switch {
	case unreadable != nil:
		return "", fault.NotReleasable.Wrap(unreadable, "the message is not an accepted event, its sender must be corrected")
	case found.Code == fault.MessageInvalid: // a newer program may read it, but no stage has looked at what it says
		return "", fault.NotReleasable.Errorf("the message was not an accepted event when it came, its sender must be corrected")
	case found.Stage == "fairness":
		return r.Queue, nil
	case found.Stage == "redrive" && slices.Contains(r.Origins, queue):
		return queue, nil
	}
	return "", fault.NotReleasable.Errorf("no queue in use here is known to be the one it was taken from")
}

// origin is the queue that a dead letter was given up on, with which the redrive begins the detail. No name of a queue has
// a colon in it.
func origin(givenUp rejected.Rejection) string {
	queue, _, _ := strings.Cut(givenUp.Detail, ": ")
	return queue
}

// releaseID is the same for every release of a rejection, so that a repeat is dropped where duplicates are detected; and
// not the id the message had, or the release would be.
func releaseID(rejection string) string {
	return derivedID("release", rejection, "release")
}
