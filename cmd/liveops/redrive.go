package main

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"

	"liveops/core/fault"
	"liveops/local/replay"
)

// maxMove is how many dead letters of a queue, or rejections, one request of an operator can ask for.
const maxMove = 100

type redriveCommand struct {
	Queue    string `help:"Only the dead letters of this queue." placeholder:"NAME" xor:"which"`
	Limit    int    `help:"At most so many dead letters of each queue, and so many releases; 0 for all." default:"0"`
	Rejected bool   `help:"Release what was given up too, now or earlier, of every queue." xor:"which"`
	address
	operator
}

// Help implements kong's longer help.
func (redriveCommand) Help() string {
	return `Dead letters go back to the queue where they died. One that was brought back three times is given up: it stays
in GET /v1/operations/rejected?stage=redrive&state=open until it is released. The system redrives by itself too, every
minute and slowly; this does it now. The exit code is 3 when something was given up, or with --rejected could not be
released.

Examples:
  liveops redrive --secret-file DIR/dev-admin.secret
  liveops redrive --queue progression --limit 500 --secret-file DIR/dev-admin.secret
  liveops redrive --rejected --key-id ops --secret-file ops.secret`
}

// Validate implements kong's check of the flags.
func (c redriveCommand) Validate() error {
	if c.Limit < 0 {
		return errors.New("--limit must not be negative")
	}
	return c.address.Validate()
}

// Run prints what was done also when it had to stop.
func (c redriveCommand) Run(ctx context.Context, t *terminal) error {
	me, err := c.signed(identity(c.operator))
	if err != nil {
		return err
	}
	moved, err := me.redrive(ctx, c.Queue, c.Limit)
	var released releases
	if err == nil && c.Rejected {
		released, err = me.releaseGivenUp(ctx, c.Limit)
	}
	refused := len(released.refused) > 0
	t.out.table(0, func(row func(string, ...any)) {
		for _, q := range moved {
			row("%s\tredriven %d\tgiven up %d", q.Queue, q.Redriven, q.GivenUp)
			refused = refused || q.GivenUp > 0 && !c.Rejected
		}
		if c.Rejected {
			row("released\t%d", released.done)
		}
	})
	for _, id := range released.refused {
		t.out.printf("cannot be released: %s\n", id)
	}
	if err == nil && refused {
		return errRefused
	}
	return err
}

// redriven is what became of the dead letters of one queue.
type redriven struct {
	Queue    string `json:"queue"`
	Redriven int    `json:"redriven"`
	GivenUp  int    `json:"given_up"`
}

// redrive asks until no dead letter is left, or limit of each queue were taken; 0 is no limit. What it gives holds beside an
// error too, but for what the request that failed may have done.
func (c client) redrive(ctx context.Context, queue string, limit int) (moved []redriven, err error) {
	for left := limit; ; {
		n := maxMove
		if limit > 0 {
			n = min(n, left)
			left -= n
		}
		query := url.Values{"limit": {strconv.Itoa(n)}}
		if queue != "" {
			query.Set("queue", queue)
		}
		var answer struct {
			Queues []redriven `json:"queues"`
			More   bool       `json:"more"`
		}
		if err := c.do(ctx, http.MethodPost, "/v1/operations/dead-letters/redrive?"+query.Encode(), []byte{}, &answer); err != nil {
			return moved, err
		}
		for i, q := range answer.Queues { // in the same order every time
			if i == len(moved) {
				moved = append(moved, redriven{Queue: q.Queue})
			}
			moved[i].Redriven += q.Redriven
			moved[i].GivenUp += q.GivenUp
		}
		if !answer.More || limit > 0 && left == 0 {
			return moved, nil
		}
	}
}

// releases is what became of rejections that were to be released.
type releases struct {
	done    int
	refused []string // the ids of those that cannot be
}

// releaseGivenUp releases the dead letters that were given up and wait for somebody, at most limit of them; 0 is no limit.
func (c client) releaseGivenUp(ctx context.Context, limit int) (released releases, err error) {
	for cursor := ""; ; {
		query := url.Values{"stage": {"redrive"}, "state": {"open"}, "limit": {strconv.Itoa(maxMove)}}
		if cursor != "" {
			query.Set("cursor", cursor)
		}
		var page struct {
			Rejected []struct {
				ID string `json:"id"`
			} `json:"rejected"`
			Next string `json:"next"`
		}
		if err := c.do(ctx, http.MethodGet, "/v1/operations/rejected?"+query.Encode(), nil, &page); err != nil {
			return released, err
		}
		for _, row := range page.Rejected {
			if limit > 0 && released.done == limit {
				return released, nil
			}
			var answer struct{}
			err := c.do(ctx, http.MethodPost, "/v1/operations/rejected/"+row.ID+"/release", []byte{}, &answer)
			if problem, answered := errors.AsType[*replay.Problem](err); answered && problem.Code == string(fault.NotReleasable) {
				released.refused = append(released.refused, row.ID)
				continue
			}
			if err != nil {
				return released, err
			}
			released.done++
		}
		if cursor = page.Next; cursor == "" {
			return released, nil
		}
	}
}
