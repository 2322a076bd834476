package app

import (
	"errors"
	"net/http"

	"liveops/core/event"
	"liveops/core/fault"
	"liveops/core/pipeline"
	"liveops/core/signing"
	"liveops/handler/web"
)

// events takes one event, or a batch.
func (a *App) events(batch bool) web.Handler {
	route := "POST /v1/events"
	if batch {
		route += "/batch"
	}
	players := []signing.Class{signing.Server, signing.Client, signing.Session}
	return a.bounded(requestDeadline, func(w http.ResponseWriter, r *http.Request) error {
		c, err := a.verify(r, event.MaxBody, players)
		if err != nil {
			return err
		}
		if err := c.keyed(); err != nil {
			return err
		}
		answer, replayed, err := a.gateway.Accept(r.Context(), pipeline.Submission{
			Key: c.key, Request: c.request, Route: route, Batch: batch,
		})
		if errors.Is(err, fault.RedisUnavailable) {
			a.refusing.Inc()
		}
		if err != nil {
			setHeader(w, answer.Header)
			return err
		}
		return reply(w, answer, replayed)
	})
}
