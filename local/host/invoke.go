package host

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"
)

// Version is what the host says it is, in headers.
const Version = "4.1052.200.0"

const (
	headerVersion    = "X-Azure-Functions-HostVersion"
	headerInvocation = "X-Azure-Functions-InvocationId"
	userAgent        = "Azure-Functions-Host/" + Version
)

// Invocation is one run of a function, as Observe sees it once it is over.
type Invocation struct {
	Function string
	ID       string // a lower-case GUID
	Mode     string // how the handler was called: proxy, forward or json
	Messages int    // a queue trigger's deliveries
	Status   int    // of the handler's answer, 0 when there was none
	Started  time.Time
	Duration time.Duration
	Err      error // nil when it succeeded
}

// What makes an invocation fail without an answer that says so. errors.Is finds them in Invocation.Err.
var (
	ErrTimeout = errors.New("timeout value was exceeded by function")
	ErrHang    = errors.New("the handler answered with an empty or null body, so the invocation never completes")
)

// invoke runs one invocation and reports it. functionTimeout ends it and, with it, the handler.
func (h *Host) invoke(ctx context.Context, inv *Invocation, call func(ctx context.Context, inst *instance) error) error {
	inv.ID, inv.Started = uuid.NewString(), h.options.Now()
	began := time.Now()
	inv.Err = h.attempt(ctx, call)
	inv.Duration = time.Since(began)
	level, outcome := slog.LevelDebug, "invocation succeeded"
	if inv.Err != nil {
		level, outcome = slog.LevelError, "invocation failed"
	}
	h.options.Log.LogAttrs(ctx, level, outcome, slog.String("function", inv.Function), slog.String("invocation", inv.ID),
		slog.Duration("duration", inv.Duration), slog.Int("status", inv.Status), slog.Any("error", inv.Err))
	if h.options.Observe != nil {
		h.options.Observe(*inv)
	}
	return inv.Err
}

func (h *Host) attempt(ctx context.Context, call func(ctx context.Context, inst *instance) error) error {
	inst, err := h.worker.await(ctx)
	if err != nil {
		if errors.Is(err, errNoHandler) {
			h.stop(err)
		}
		return err
	}
	if limit := h.app.timeout; limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, limit, ErrTimeout)
		defer cancel()
	}
	err = call(ctx, inst)
	if errors.Is(err, ErrHang) {
		select {
		case <-ctx.Done():
		case <-inst.life.Done():
			return fmt.Errorf("%w; %w", err, errHandlerEnded)
		}
	}
	if err != nil && errors.Is(context.Cause(ctx), ErrTimeout) {
		inst.condemn()
		return fmt.Errorf("%w after %s: %w", ErrTimeout, h.app.timeout, err)
	}
	return err
}

// result is a handler's answer in the JSON protocol.
type result struct {
	Outputs     map[string]json.RawMessage
	Logs        []string
	ReturnValue json.RawMessage
}

// post calls a function by the JSON protocol (contract §3.1, §4.1).
func (h *Host) post(ctx context.Context, inst *instance, inv *Invocation, trigger string, value any, data bindingData) (*result, error) {
	body := compact(struct {
		Data     map[string]any
		Metadata map[string]any
	}{map[string]any{trigger: encode(value)}, data.metadata()})
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+inst.address+"/"+inv.Function, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.ContentLength = -1 // chunked: the host cannot compute the length
	request.Header.Set(headerVersion, Version)
	request.Header.Set(headerInvocation, inv.ID)
	request.Header.Set("User-Agent", userAgent)
	request.Header.Set("Content-Type", "application/json; charset=utf-8")
	client := http.Client{Transport: inst.transport}
	if h.app.handler.EnableForwardingHTTPRequest {
		client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("call the handler: %w", err)
	}
	defer response.Body.Close() //nolint:errcheck // read to the end or given up
	inv.Status = response.StatusCode
	if response.StatusCode/100 != 2 {
		return nil, fmt.Errorf("response status code does not indicate success: %s", response.Status)
	}
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, fmt.Errorf("read the handler's answer: %w", err)
	}
	res, err := parseResult(answer, response.Header.Get("Content-Type"))
	if err != nil {
		return nil, err
	}
	for _, line := range res.Logs {
		h.options.Log.Info(line, slog.String("function", inv.Function), slog.String("invocation", inv.ID))
	}
	return res, nil
}

// parseResult reads a 2xx answer. An empty body or null is no error to the host: it waits for a result that never comes.
func parseResult(answer []byte, contentType string) (*result, error) {
	if len(answer) == 0 {
		return nil, ErrHang
	}
	if kind, _, err := mime.ParseMediaType(contentType); err != nil || kind != "application/json" && kind != "text/json" {
		return nil, fmt.Errorf("invalid HttpResponseMessage: media type %q is not application/json", contentType)
	}
	answer = bytes.TrimSpace(bytes.TrimPrefix(answer, []byte("\ufeff")))
	if len(answer) == 0 || string(answer) == "null" {
		return nil, ErrHang
	}
	var res result
	if err := json.Unmarshal(answer, &res); err != nil {
		return nil, fmt.Errorf("invalid HttpResponseMessage: %w", err)
	}
	return &res, nil
}

// data is the binding data that every invocation begins with.
func (h *Host) data(inv *Invocation) bindingData {
	return bindingData{"sys": map[string]any{
		"MethodName": inv.Function,
		"UtcNow":     h.options.Now().UTC().Format("2006-01-02T15:04:05.9999999Z"),
		"RandGuid":   uuid.NewString(),
	}}
}

// httpAnswer is the response that a function without forwarding describes in its outputs.
type httpAnswer struct {
	status int
	header http.Header
	body   []byte
}

// answer renders the http output (contract §4.4).
func (f *Function) answer(res *result) (*httpAnswer, error) {
	switch {
	case f.output == nil:
		return &httpAnswer{status: http.StatusNoContent}, nil
	case f.output.Name == "$return":
		return returned(res.ReturnValue, f.output.DataType)
	}
	outputs := res.Outputs
	var members map[string]json.RawMessage
	if json.Unmarshal(res.ReturnValue, &members) == nil && members != nil {
		if outputs == nil {
			outputs = map[string]json.RawMessage{}
		}
		for name, value := range members {
			if _, given := outputs[name]; !given {
				outputs[name] = value
			}
		}
	}
	if outputs == nil {
		return &httpAnswer{status: http.StatusOK}, nil
	}
	value, given := outputs[f.output.Name]
	if !given {
		return textAnswer([]byte("{}")), nil
	}
	var described struct {
		StatusCode json.RawMessage
		Headers    json.RawMessage
		Body       json.RawMessage
	}
	if len(value) == 0 || value[0] != '{' || json.Unmarshal(value, &described) != nil {
		return nil, errors.New("failed while trying to Deserialize to httpOutputBindingResponse: the output is not an object")
	}
	return render(described.StatusCode, described.Headers, described.Body)
}

// returned renders a $return output. A string is taken for base64 first.
func returned(value json.RawMessage, dataType string) (*httpAnswer, error) {
	var text string
	if len(value) > 0 && value[0] == '"' && json.Unmarshal(value, &text) == nil {
		if decoded, ok := fromBase64(text); ok && dataType != "binary" {
			return textAnswer(decoded), nil
		}
		if !json.Valid([]byte(text)) {
			return textAnswer([]byte(text)), nil
		}
		value = json.RawMessage(text)
	}
	var described struct{ StatusCode, Status, Headers, Body json.RawMessage }
	if json.Unmarshal(value, &described) == nil && described.Body != nil {
		if described.StatusCode == nil {
			described.StatusCode = described.Status
		}
		return render(described.StatusCode, described.Headers, described.Body)
	}
	return render(nil, nil, value)
}

func textAnswer(body []byte) *httpAnswer {
	header := http.Header{}
	header.Set("Content-Type", "text/plain; charset=utf-8")
	return &httpAnswer{status: http.StatusOK, header: header, body: body}
}

func render(status, headers, body json.RawMessage) (*httpAnswer, error) {
	a := textAnswer(nil)
	if code, ok := integer(status); ok {
		a.status = code
	}
	if len(body) > 0 && string(body) != "null" {
		var text string
		var indented bytes.Buffer
		switch {
		case json.Unmarshal(body, &text) == nil:
			a.body = []byte(text)
		case json.Indent(&indented, body, "", "  ") == nil:
			a.body = indented.Bytes()
		}
	}
	var list map[string]any
	if len(headers) > 0 {
		if err := json.Unmarshal(headers, &list); err != nil {
			return nil, fmt.Errorf("headers of the http output: %w", err)
		}
	}
	for name, value := range list {
		if value == nil {
			return nil, fmt.Errorf("header %s of the http output is null", name)
		}
		a.header.Set(name, strings.TrimSpace(fmt.Sprint(value)))
	}
	return a, nil
}
