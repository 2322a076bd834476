package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"liveops/core/signing"
	"liveops/local/oracle"
)

// api asks the system under test, as a game server does.
type api struct {
	url  string
	http *http.Client
	now  func() time.Time
}

func newAPI(url string, now func() time.Time) *api {
	return &api{url: url, now: now, http: &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 16}}}
}

// errLater is an answer after which the same request may succeed, or none.
var errLater = errors.New("not now")

// do sends one signed request; idempotency is empty where none is asked for. An answer that says later, and no answer, is
// errLater.
func (a *api) do(ctx context.Context, method, path string, body []byte, idempotency string) (status int, answer []byte, err error) {
	request, err := http.NewRequestWithContext(ctx, method, a.url+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	request.GetBody = nil // so that net/http does not send the same nonce twice by itself
	if idempotency != "" {
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set(signing.HeaderIdempotency, idempotency)
	}
	class := signing.Server
	if strings.HasPrefix(path, "/v1/operations/") {
		class = signing.Admin
	}
	if err := signing.SignHTTP(request, key(class), body, a.now(), signing.NewNonce()); err != nil {
		return 0, nil, err
	}
	response, err := a.http.Do(request)
	if err != nil {
		return 0, nil, later(ctx, err)
	}
	defer response.Body.Close() //nolint:errcheck // it is read to its end
	if answer, err = io.ReadAll(response.Body); err != nil {
		return 0, nil, later(ctx, err)
	}
	status = response.StatusCode
	if status >= 500 || status == http.StatusConflict || status == http.StatusTooManyRequests {
		return status, answer, fmt.Errorf("%w: %s: %s", errLater, response.Status, answer)
	}
	return status, answer, nil
}

func later(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return fmt.Errorf("%w: %w", errLater, err)
}

// page is one page of a board.
type page struct {
	Entries []oracle.Entry `json:"entries"`
	Next    string         `json:"next"`
	Window  struct {
		ID string `json:"id"`
	} `json:"window"`
}

// board reads a whole board, and gives the window's id.
func (a *api) board(ctx context.Context, board, window string) (entries []oracle.Entry, id string, err error) {
	query := url.Values{"window": {window}, "limit": {"1000"}}
	for {
		var p page
		if err := a.get(ctx, "/v1/leaderboards/"+board+"?"+query.Encode(), &p); err != nil {
			return nil, "", err
		}
		entries = append(entries, p.Entries...)
		if p.Next == "" {
			return entries, p.Window.ID, nil
		}
		query.Set("cursor", p.Next)
	}
}

// release puts everything that was delivered too often back on its way, as an operator would.
func (a *api) release(ctx context.Context) (released int, err error) {
	for {
		var list struct {
			Rejected []struct {
				ID   string `json:"id"`
				Code string `json:"code"`
			} `json:"rejected"`
		}
		if err := a.get(ctx, "/v1/operations/rejected?stage=redrive&state=open&limit=100", &list); err != nil {
			return released, err
		}
		if len(list.Rejected) == 0 {
			return released, nil
		}
		for _, r := range list.Rejected {
			if err := a.ask(ctx, http.MethodPost, "/v1/operations/rejected/"+r.ID+"/release", new(any)); err != nil {
				return released, err
			}
			released++
		}
	}
}

// get reads an answer.
func (a *api) get(ctx context.Context, path string, into any) error {
	return a.ask(ctx, http.MethodGet, path, into)
}

// ask makes a request without a body, coming again for up to a minute where it is told to.
func (a *api) ask(ctx context.Context, method, path string, into any) error {
	var text []byte
	var failed error
	err := await(ctx, method+" "+path, time.Minute, func() bool {
		var status int
		status, text, failed = a.do(ctx, method, path, nil, "")
		if failed == nil && status != http.StatusOK {
			failed = fmt.Errorf("%s %s: %d: %s", method, path, status, strings.TrimSpace(string(text)))
		}
		return !errors.Is(failed, errLater)
	})
	if failed != nil {
		return failed
	}
	if err != nil {
		return err
	}
	return json.Unmarshal(text, into)
}
