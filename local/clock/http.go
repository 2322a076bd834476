package clock

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
)

// maxBody bounds the bodies that are read, in bytes.
const maxBody = 4 << 10

// order is the body of a move.
type order struct {
	To time.Time `json:"to"`
}

// Handler serves the clock of a world: GET /clock reads it, POST /clock with {"to": "…"}, an instant by RFC 3339, moves it.
// Both answer with a Reading. 400 is a body that says no instant, 409 a move back, 503 a move that was not done, each with the
// reason in plain text. Pages of other origins are refused.
func Handler(w World) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /clock", func(rw http.ResponseWriter, r *http.Request) {
		reading, err := w.Clock(r.Context())
		answer(rw, reading, err)
	})
	mux.HandleFunc("POST /clock", func(rw http.ResponseWriter, r *http.Request) {
		var o order
		err := json.UnmarshalRead(http.MaxBytesReader(rw, r.Body, maxBody), &o, json.RejectUnknownMembers(true))
		if err == nil && o.To.IsZero() {
			err = errors.New("to is missing")
		}
		if err != nil {
			http.Error(rw, `the body must be like {"to": "2022-11-01T00:00:00Z"}: `+err.Error(), http.StatusBadRequest)
			return
		}
		reading, err := w.Move(r.Context(), o.To)
		answer(rw, reading, err)
	})
	return http.NewCrossOriginProtection().Handler(mux)
}

func answer(w http.ResponseWriter, reading Reading, err error) {
	if err == nil {
		var body []byte
		if body, err = json.Marshal(reading); err == nil {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write(append(body, '\n')) // whoever asked is gone
			return
		}
	}
	status := http.StatusServiceUnavailable
	if errors.Is(err, ErrBack) {
		status = http.StatusConflict
	}
	http.Error(w, err.Error(), status)
}

// Remote is a World behind a Handler.
type Remote struct {
	URL    string       // of the listener, without a path
	Client *http.Client // nil: http.DefaultClient. A move may take minutes
}

var _ World = Remote{}

// Clock implements World.
func (r Remote) Clock(ctx context.Context) (Reading, error) { return r.ask(ctx, http.MethodGet, nil) }

// Move implements World.
func (r Remote) Move(ctx context.Context, to time.Time) (Reading, error) {
	body, err := json.Marshal(order{to})
	if err != nil {
		return Reading{}, err
	}
	return r.ask(ctx, http.MethodPost, body)
}

func (r Remote) ask(ctx context.Context, method string, body []byte) (Reading, error) {
	request, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(r.URL, "/")+"/clock", bytes.NewReader(body))
	if err != nil {
		return Reading{}, err
	}
	client := r.Client
	if client == nil {
		client = http.DefaultClient
	}
	response, err := client.Do(request)
	if err != nil {
		return Reading{}, fmt.Errorf("the clock: %w", err)
	}
	defer response.Body.Close() //nolint:errcheck // it is read to its end
	text, err := io.ReadAll(io.LimitReader(response.Body, maxBody))
	if err != nil {
		return Reading{}, fmt.Errorf("the clock: %w", err)
	}
	switch response.StatusCode {
	case http.StatusOK:
	case http.StatusConflict:
		return Reading{}, refusal{strings.TrimSpace(string(text))}
	default:
		return Reading{}, fmt.Errorf("the clock answered %s: %s", response.Status, strings.TrimSpace(string(text)))
	}
	var reading Reading
	if err := json.Unmarshal(text, &reading); err != nil || reading.Now.IsZero() {
		return Reading{}, fmt.Errorf("%s does not answer as a clock", r.URL)
	}
	return reading, nil
}

// refusal is ErrBack in the words of the other side.
type refusal struct{ text string }

func (r refusal) Error() string { return r.text }

// Is makes it ErrBack.
func (r refusal) Is(target error) bool { return target == ErrBack }
