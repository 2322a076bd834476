package replay

import (
	"github.com/go-json-experiment/json"
)

// Problem is a gateway's answer other than 2xx. Code and the rest are empty when something else than a gateway answered.
type Problem struct {
	Status     string `json:"-"` // such as 401 Unauthorized
	Code       string `json:"code"`
	Title      string `json:"title"`
	Detail     string `json:"detail"`
	ServerTime int64  `json:"server_time"` // unix seconds, with timestamp-out-of-window
}

// ReadProblem reads the body of an answer.
func ReadProblem(status string, body []byte) *Problem {
	var p Problem
	if json.Unmarshal(body, &p) != nil {
		p = Problem{}
	}
	p.Status = status
	return &p
}

// Error is the problem on one line.
func (p *Problem) Error() string {
	text := "the gateway answered " + p.Status
	if p.Code == "" {
		return text + " without saying why"
	}
	text += ": " + p.Code + ": " + p.Title
	if p.Detail != "" {
		text += " (" + p.Detail + ")"
	}
	return text
}
