package app

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"liveops/handler/web"
)

// aged keeps answers of reads for as long as their board lets an answer be old, and finds each but once meanwhile, whoever asks.
type aged struct {
	mu      sync.Mutex
	answers map[string]agedAnswer
	finding singleflight.Group
}

type agedAnswer struct {
	web.Answer
	until time.Time // by the clock of this machine
}

// agedAnswers is how many answers are kept at most.
const agedAnswers = 2048

// read gives the answer that is kept under a key, or finds it. What is found is kept unless it is an error.
func (k *aged) read(ctx context.Context, key string, age time.Duration, find func(context.Context) (web.Answer, error)) (web.Answer, error) {
	if answer, ok := k.kept(key); ok {
		return answer, nil
	}
	found := k.finding.DoChan(key, func() (any, error) {
		ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), requestDeadline) // others wait for it too
		defer stop()
		answer, err := find(ctx)
		if err == nil {
			k.keep(key, agedAnswer{answer, time.Now().Add(age)})
		}
		return answer, err
	})
	select {
	case result := <-found:
		answer, _ := result.Val.(web.Answer)
		return answer, result.Err
	case <-ctx.Done():
		return web.Answer{}, ctx.Err()
	}
}

func (k *aged) kept(key string) (web.Answer, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	answer, ok := k.answers[key]
	return answer.Answer, ok && time.Now().Before(answer.until)
}

func (k *aged) keep(key string, answer agedAnswer) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.answers == nil || len(k.answers) >= agedAnswers { // they would be too old in a moment anyway
		k.answers = map[string]agedAnswer{}
	}
	k.answers[key] = answer
}

// reads makes a handler of a read of the path's board. Where the board lets an answer be old, clients may keep it that long, this
// process does, and whoever has the answer already is told so with 304. What a hidden player sees is his alone and always found
// anew.
func (a *App) reads(read func(r *http.Request, c caller) (ranking, error)) handler {
	return func(w http.ResponseWriter, r *http.Request, c caller) error {
		board := a.catalog.Load().Boards[r.PathValue("board")]
		age, query := board.Age.Std(), r.URL.Query()
		if age == 0 || query.Has("viewer") {
			answer, err := read(r, c)
			if err != nil {
				return err
			}
			return web.JSON(w, http.StatusOK, answer)
		}
		answer, err := a.aged.read(r.Context(), question(r, c), age, func(ctx context.Context) (web.Answer, error) {
			found, err := read(r.WithContext(ctx), c)
			if err != nil {
				return web.Answer{}, err
			}
			return found.tagged()
		})
		if err != nil {
			return err
		}
		scope := "private"
		if c.key.ID == "" {
			scope = "public"
		}
		w.Header().Set("Cache-Control", scope+", max-age="+strconv.Itoa(int(age/time.Second)))
		if has(r.Header.Values("If-None-Match"), answer.Header.Get("ETag")) {
			w.Header().Set("ETag", answer.Header.Get("ETag"))
			w.WriteHeader(http.StatusNotModified)
			return nil
		}
		return answer.Send(w)
	}
}

// question names what a read asks for: two that are alike have the same answer. Parameters that no read knows are left out, so that
// nobody has an answer found anew by making some up.
func question(r *http.Request, c caller) string {
	asked, query := url.Values{}, r.URL.Query()
	for _, known := range []string{"window", "limit", "cursor", "id", "score", "after", "before"} {
		if values, sent := query[known]; sent {
			asked[known] = values
		}
	}
	return strings.Join([]string{r.URL.Path, asked.Encode(), strconv.FormatBool(c.trusted())}, "\n")
}

// tagged is the answer with its tag. The tag is a weak one, of all but the seconds left: two answers with the same tag say the
// same about the ranking.
func (k ranking) tagged() (web.Answer, error) {
	answer, err := web.Encode(http.StatusOK, k)
	if err != nil {
		return web.Answer{}, err
	}
	k.Window.SecondsLeft = nil
	timeless, err := web.Encode(http.StatusOK, k)
	if err != nil {
		return web.Answer{}, err
	}
	sum := sha256.Sum256(timeless.Body)
	answer.Header.Set("ETag", `W/"`+base64.RawURLEncoding.EncodeToString(sum[:12])+`"`)
	return answer, nil
}

// has says whether a tag is among those of If-None-Match (RFC 9110 §13.1.2, where weak tags are as good as strong ones).
func has(fields []string, tag string) bool {
	for _, field := range fields {
		for one := range strings.SplitSeq(field, ",") {
			one = strings.TrimSpace(one)
			if one == "*" || strings.TrimPrefix(one, "W/") == strings.TrimPrefix(tag, "W/") {
				return true
			}
		}
	}
	return false
}
