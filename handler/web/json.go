package web

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"

	"liveops/core/fault"
)

// JSON answers with v as JSON. Nothing was written when v cannot be encoded. The same value always gives the same bytes.
func JSON(w http.ResponseWriter, status int, v any) error {
	answer, err := Encode(status, v)
	if err != nil {
		return err
	}
	return answer.Send(w)
}

// Encode is the answer that JSON gives.
func Encode(status int, v any) (Answer, error) {
	body, err := encode(v)
	if err != nil {
		return Answer{}, fmt.Errorf("encode the answer: %w", err)
	}
	return Answer{Status: status, Header: http.Header{"Content-Type": {"application/json"}}, Body: body}, nil
}

// Body reads the JSON body of a request as it was sent, at most limit bytes of it. It checks what the headers say about the
// bytes and not that they are JSON. What is not application/json in UTF-8, or is compressed, is fault.Unsupported; what is
// longer is fault.TooLarge; what ends early is fault.Malformed.
func Body(r *http.Request, limit int64) ([]byte, error) {
	for _, line := range r.Header.Values("Content-Encoding") {
		for coding := range strings.SplitSeq(line, ",") {
			if coding = strings.TrimSpace(coding); coding != "" && !strings.EqualFold(coding, "identity") {
				return nil, fault.UnsupportedCoding.Errorf("the signature covers the bytes as sent: send them uncompressed")
			}
		}
	}
	if !jsonType(r.Header.Values("Content-Type")) {
		return nil, fault.UnsupportedMedia.Errorf("send Content-Type: application/json")
	}
	if r.ContentLength > limit {
		return nil, tooLarge(limit)
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, limit+1))
	if _, over := errors.AsType[*http.MaxBytesError](err); over || int64(len(body)) > limit {
		return nil, tooLarge(limit)
	}
	if err != nil {
		return nil, fault.MalformedRequest.Wrap(err, "the body ended before it was complete")
	}
	return body, nil
}

func tooLarge(limit int64) error {
	return fault.BodyTooLarge.Errorf("the body may have at most %d bytes", limit)
}

func jsonType(values []string) bool {
	if len(values) != 1 {
		return false
	}
	media, params, err := mime.ParseMediaType(values[0])
	if err != nil || media != "application/json" {
		return false
	}
	for name, value := range params {
		if name == "charset" && !strings.EqualFold(value, "utf-8") {
			return false
		}
	}
	return true
}
