package replay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/go-json-experiment/json"

	"liveops/core/fault"
	"liveops/core/signing"
)

// maxAnswer bounds the answer that is read, in bytes.
const maxAnswer = 4 << 20

// sender posts batches.
type sender struct {
	url     string
	key     signing.Key
	retries int
	http    *http.Client
	watch   watch
	follows bool // the gateway's clock stands still: to wait for it by real time is in vain
	report  *Report
}

// result is one entry of the gateway's answer.
type result struct {
	EventID    string `json:"event_id"`
	Status     string `json:"status"`
	Code       string `json:"code"`
	RetryAfter int64  `json:"retry_after"`
}

// again is a failure after which the same request may succeed.
type again struct {
	error
	after time.Duration
}

// send posts a batch of n events until it is answered for good. Every try has a nonce of its own and the same idempotency
// key.
func (s *sender) send(ctx context.Context, body []byte, n int) ([]result, error) {
	key := signing.NewNonce()
	for try := 0; ; try++ {
		results, err := s.post(ctx, body, n, key)
		a, may := errors.AsType[again](err)
		switch {
		case err == nil && len(results) != n:
			return nil, fmt.Errorf("the gateway answered %d results for %d events", len(results), n)
		case !may:
			return results, err
		case try == s.retries:
			return nil, a.error
		}
		s.report.retried()
		if err := pause(ctx, a.after); err != nil {
			return nil, err
		}
	}
}

// post sends one request.
func (s *sender) post(ctx context.Context, body []byte, n int, key string) ([]result, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.GetBody = nil // so that net/http does not send the same bytes again by itself: the nonce is good once
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set(signing.HeaderIdempotency, key)
	now, corrected := s.watch.read()
	if err := signing.SignHTTP(request, s.key, body, now, signing.NewNonce()); err != nil {
		return nil, err
	}
	got, err := s.ask(request)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, again{err, time.Second}
	}
	var answer struct {
		Results []result `json:"results"`
	}
	if json.Unmarshal(got.body, &answer) == nil && len(answer.Results) > 0 { // 202, or a problem about each event
		return answer.Results, nil
	}
	problem := ReadProblem(got.text, got.body)
	if s.follows && got.status == http.StatusTooManyRequests { // the key is over its rate
		return all(n, result{Status: "throttled", Code: problem.Code, RetryAfter: int64(got.retryAfter() / time.Second)}), nil
	}
	switch got.status {
	case http.StatusConflict, http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return nil, again{problem, got.retryAfter()}
	case http.StatusUnauthorized:
		if problem.Code == string(fault.TimestampOutside) && problem.ServerTime > 0 && !corrected {
			s.watch.correct(time.Unix(problem.ServerTime, 0))
			s.report.retried()
			return s.post(ctx, body, n, key)
		}
	case http.StatusForbidden: // all that could be read is of one player, who is blocked
		if problem.Code == string(fault.PlayerBlocked) {
			return all(n, result{Status: "rejected", Code: problem.Code}), nil
		}
	}
	return nil, problem
}

// all is the same result for every one of n events.
func all(n int, r result) []result { return slices.Repeat([]result{r}, n) }

// reply is an answer that was read.
type reply struct {
	status int
	text   string // such as 202 Accepted
	header http.Header
	body   []byte
}

// retryAfter is the pause the gateway asked for, a second when it did not.
func (r reply) retryAfter() time.Duration {
	seconds, err := strconv.ParseInt(r.header.Get("Retry-After"), 10, 32)
	if err != nil || seconds < 1 {
		return time.Second
	}
	return time.Duration(seconds) * time.Second
}

// ask sends a request and reads the whole answer.
func (s *sender) ask(request *http.Request) (reply, error) {
	started := time.Now()
	response, err := s.http.Do(request)
	if err != nil {
		return reply{}, err
	}
	defer response.Body.Close() //nolint:errcheck // it is read to its end
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return reply{}, err
	}
	s.report.answered(time.Since(started))
	return reply{response.StatusCode, response.Status, response.Header, body}, nil
}

// pause waits.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// watch is what requests are dated by: now, until a gateway that finds it too far off says the time itself.
type watch struct {
	now func() time.Time

	mu        sync.Mutex
	corrected bool
	off       time.Duration
}

func (w *watch) read() (now time.Time, corrected bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now().Add(w.off), w.corrected
}

// correct sets the watch. It is for requests dated before it was corrected: several that were under way together bring the
// same news.
func (w *watch) correct(to time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.corrected, w.off = true, to.Sub(w.now())
}
