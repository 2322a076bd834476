package app

import (
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"

	"liveops/core/fault"
	"liveops/core/pipeline"
	"liveops/core/rejected"
	"liveops/handler/web"
)

// listRejected answers what had no effect, newest first: of one stage with ?stage=, released or not with ?state=.
func (a *App) listRejected(w http.ResponseWriter, r *http.Request, c caller) error {
	n, err := limit(r, c, 20)
	if err != nil {
		return err
	}
	stage, err := oneOf(r, "stage", "fairness", "progression", "redrive")
	if err != nil {
		return err
	}
	state, err := oneOf(r, "state", string(rejected.Open), string(rejected.Released))
	if err != nil {
		return err
	}
	rows, next, err := a.rejected.List(r.Context(), rejected.Filter{
		After: r.URL.Query().Get("cursor"), Limit: n, Stage: stage, State: rejected.State(state),
	})
	if err != nil {
		return err
	}
	list := make([]map[string]any, len(rows))
	for i, row := range rows {
		list[i] = rejection(row)
	}
	return web.JSON(w, http.StatusOK, map[string]any{"rejected": list, "next": next})
}

// showRejected answers one rejected message with its bytes.
func (a *App) showRejected(w http.ResponseWriter, r *http.Request, _ caller) error {
	row, err := a.rejected.Get(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	answer := rejection(row)
	answer["body"] = row.Body // base64: it may be anything
	return web.JSON(w, http.StatusOK, answer)
}

// releaseRejected puts a rejected event back on its way. It asks for no Idempotency-Key: releasing twice is releasing once, by
// the mark on the rejection and the ledger's unique key, however long ago the first was. The body may be empty.
func (a *App) releaseRejected(w http.ResponseWriter, r *http.Request, c caller) error {
	row, err := a.release.Event(r.Context(), r.PathValue("id"), c.key.ID)
	if err != nil {
		return err
	}
	return web.JSON(w, http.StatusOK, map[string]any{
		"id": row.ID, "queue": row.Release.Queue, "released_at": timestamp(row.Release.At), "released_by": row.Release.By,
	})
}

// redriveDeadLetters brings dead letters back now: at most ?limit= of each queue, or of the one that ?queue= names. It asks for
// no Idempotency-Key: a repeat goes on where the first ended, and the ids of what comes back are the same whoever brings it. The
// body may be empty. When it fails, what was done stays done.
func (a *App) redriveDeadLetters(w http.ResponseWriter, r *http.Request, c caller) error {
	n, err := limit(r, c, pipeline.RedriveBatch)
	if err != nil {
		return err
	}
	queues := a.redrive.Queues
	one, err := oneOf(r, "queue", queues...)
	if err != nil {
		return err
	}
	if one != "" {
		queues = []string{one}
	}
	moved, err := a.redrive.Move(r.Context(), n, queues...)
	if err != nil {
		return err
	}
	list, more := make([]map[string]any, len(moved)), false
	for i, q := range moved {
		list[i] = map[string]any{"queue": q.Queue, "redriven": q.Back, "given_up": q.GivenUp, "more": q.More}
		more = more || q.More
	}
	return web.JSON(w, http.StatusOK, map[string]any{"queues": list, "more": more})
}

func rejection(row rejected.Rejection) map[string]any {
	answer := map[string]any{
		"id": row.ID, "stage": row.Stage, "message_id": row.MessageID, "player_id": row.PlayerID, "event_id": row.EventID,
		"code": row.Code, "detail": row.Detail, "first_at": timestamp(row.FirstAt), "last_at": timestamp(row.LastAt), "times": row.Times,
		"released_at": nil, "released_by": nil, "decision_id": optional(pipeline.Decided(row)),
	}
	if !row.Release.At.IsZero() {
		answer["released_at"], answer["released_by"] = timestamp(row.Release.At), row.Release.By
	}
	return answer
}

// oneOf reads a parameter that takes one of a few words, empty when it is not sent.
func oneOf(r *http.Request, name string, words ...string) (string, error) {
	word := r.URL.Query().Get(name)
	if word != "" && !slices.Contains(words, word) {
		return "", malformed(name, name+" is one of "+strings.Join(words, ", "))
	}
	return word, nil
}

// malformed says what is wrong with a parameter.
func malformed(name, detail string) error {
	return &fault.Error{
		Code: fault.MalformedRequest, Detail: detail, Fields: []fault.Field{{Pointer: "/" + name, Code: fault.FieldRange}},
	}
}

// invalid says what is wrong with a member of a body.
func invalid(pointer string, code fault.Code, detail string) error {
	return &fault.Error{
		Code: fault.RequestInvalid, Detail: "the request breaks the rules listed in errors",
		Fields: []fault.Field{{Pointer: pointer, Code: code, Detail: detail}},
	}
}

// unreadable says what is wrong with a body that is not what it should be: it is no JSON, or a member is unknown or of the wrong type.
func unreadable(err error) error {
	semantic, ok := errors.AsType[*json.SemanticError](err)
	if !ok {
		return fault.MalformedJSON.Wrap(err, "the body is not valid JSON")
	}
	if errors.Is(err, json.ErrUnknownName) {
		return invalid(string(semantic.JSONPointer), fault.FieldUnknown, "is not known here")
	}
	return invalid(string(semantic.JSONPointer), fault.FieldType, "has the wrong type")
}
