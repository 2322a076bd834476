// Package broker gives a broker of one process to others, over HTTP on loopback. It is for tests that kill the others: a
// message that one of them held is given again after its lock, as by a broker of its own. It has no authentication, and
// knows nothing of what a message means.
package broker

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"liveops/core/bus"
	"liveops/core/fault"
)

// Bus is what is given, and what a Client is.
type Bus interface {
	bus.Publisher
	bus.Receiver
}

// turn is how long one request waits for messages. A client that is told to stop lets its turn end, because messages that
// came for nobody would stay locked.
const turn = 200 * time.Millisecond

// problem is an answer other than the one asked for. Code is empty for an internal error.
type problem struct {
	Code   fault.Code `json:"code"`
	Detail string     `json:"detail"`
	Cause  string     `json:"cause"`
}

// Serve answers the requests of Clients: POST /OPERATION/QUEUE.
func Serve(b Bus) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /publish/{queue...}", func(w http.ResponseWriter, r *http.Request) {
		var messages []bus.Message
		if read(w, r, &messages) {
			answer(w, nil, b.Publish(r.Context(), r.PathValue("queue"), messages))
		}
	})
	mux.HandleFunc("POST /receive/{queue...}", func(w http.ResponseWriter, r *http.Request) {
		limit, _ := strconv.Atoi(r.URL.Query().Get("limit")) // 0 is as good as 1
		ctx, stop := context.WithTimeout(r.Context(), turn)
		defer stop()
		deliveries, err := b.Receive(ctx, r.PathValue("queue"), limit)
		if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
			err = nil // nothing came
		}
		answer(w, deliveries, err)
	})
	for operation, settle := range map[string]func(context.Context, string, bus.Delivery) error{"complete": b.Complete, "abandon": b.Abandon} {
		mux.HandleFunc("POST /"+operation+"/{queue...}", func(w http.ResponseWriter, r *http.Request) {
			var delivery bus.Delivery
			if read(w, r, &delivery) {
				answer(w, nil, settle(r.Context(), r.PathValue("queue"), delivery))
			}
		})
	}
	return mux
}

func read(w http.ResponseWriter, r *http.Request, into any) bool {
	err := json.NewDecoder(r.Body).Decode(into)
	if err != nil {
		answer(w, nil, err)
	}
	return err == nil
}

func answer(w http.ResponseWriter, value any, err error) {
	if err != nil {
		p := problem{Cause: err.Error()}
		if f, is := errors.AsType[*fault.Error](err); is {
			p = problem{f.Code, f.Detail, f.Error()}
		}
		w.WriteHeader(http.StatusConflict)
		value = p
	}
	_ = json.NewEncoder(w).Encode(value) // a client that is gone hears nothing
}

// Client is a broker in another process. It is safe for concurrent use.
type Client struct {
	URL  string // where Serve's handler listens
	HTTP *http.Client
}

var _ Bus = (*Client)(nil)

// NewClient makes a Client with connections of its own.
func NewClient(url string) *Client {
	return &Client{URL: url, HTTP: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}}
}

// Publish implements bus.Publisher.
func (c *Client) Publish(ctx context.Context, queue string, messages []bus.Message) error {
	return c.ask(ctx, "publish", queue, "", messages, nil)
}

// Receive implements bus.Receiver. It returns up to 200 ms after ctx ended, with the messages that came until then.
func (c *Client) Receive(ctx context.Context, queue string, limit int) ([]bus.Delivery, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		var deliveries []bus.Delivery
		err := c.ask(context.WithoutCancel(ctx), "receive", queue, "?limit="+strconv.Itoa(limit), nil, &deliveries)
		if err != nil || len(deliveries) > 0 {
			return deliveries, err
		}
	}
}

// Complete implements bus.Receiver.
func (c *Client) Complete(ctx context.Context, queue string, d bus.Delivery) error {
	return c.ask(ctx, "complete", queue, "", settlement(d), nil)
}

// Abandon implements bus.Receiver.
func (c *Client) Abandon(ctx context.Context, queue string, d bus.Delivery) error {
	return c.ask(ctx, "abandon", queue, "", settlement(d), nil)
}

// settlement is what the broker needs to know a delivery again.
func settlement(d bus.Delivery) bus.Delivery {
	return bus.Delivery{Message: bus.Message{ID: d.ID}, LockToken: d.LockToken}
}

// ask makes one request. What cannot be asked or answered is fault.Unavailable, unless ctx ended.
func (c *Client) ask(ctx context.Context, operation, queue, query string, body, into any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	target := c.URL + "/" + operation + "/" + (&url.URL{Path: queue}).EscapedPath() + query
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(text)) //nolint:gosec // to a broker of our own
	if err != nil {
		return err
	}
	response, err := c.HTTP.Do(request) //nolint:gosec // to a broker of our own
	if err != nil {
		return unreachable(ctx, operation, err)
	}
	defer response.Body.Close() //nolint:errcheck // it is read to its end
	decoder := json.NewDecoder(response.Body)
	if response.StatusCode != http.StatusOK {
		var p problem
		if err := decoder.Decode(&p); err != nil {
			return unreachable(ctx, operation, fmt.Errorf("%s: %w", response.Status, err))
		}
		if p.Code == "" {
			return errors.New(p.Cause)
		}
		return p.Code.Wrap(errors.New(p.Cause), p.Detail)
	}
	if err := decoder.Decode(&into); err != nil {
		return unreachable(ctx, operation, err)
	}
	return nil
}

func unreachable(ctx context.Context, operation string, err error) error {
	return cmp.Or(ctx.Err(), error(fault.BusUnavailable.Wrap(fmt.Errorf("%s: %w", operation, err), "the queue cannot be reached, try again")))
}
