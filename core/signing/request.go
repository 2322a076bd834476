package signing

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"liveops/core/fault"
)

// Request is what a signature speaks of. Header values are as sent; an absent one is "".
type Request struct {
	Method   string
	Path     string // percent-encoded as sent, from the first slash on
	RawQuery string // as sent, without the question mark

	KeyID          string
	Timestamp      string // unix seconds
	Nonce          string
	IdempotencyKey string
	Signature      string // v1=<base64url>, and more after commas

	Body []byte // as received, nothing decoded
}

// FromHTTP takes a Request from an HTTP request whose body was read already. A header that occurs twice is
// fault.HeaderMalformed, or IdempotencyInvalid: whoever reads the other one would act on what was not signed.
func FromHTTP(r *http.Request, body []byte) (Request, error) {
	request := Request{Method: r.Method, Path: r.URL.EscapedPath(), RawQuery: r.URL.RawQuery, Body: body}
	if request.Path == "" {
		request.Path = "/" // what a client sends for an URL without a path
	}
	for _, header := range []struct {
		name string
		into *string
		code fault.Code
	}{
		{HeaderKey, &request.KeyID, fault.HeaderMalformed},
		{HeaderTimestamp, &request.Timestamp, fault.HeaderMalformed},
		{HeaderNonce, &request.Nonce, fault.HeaderMalformed},
		{HeaderSignature, &request.Signature, fault.HeaderMalformed},
		{HeaderIdempotency, &request.IdempotencyKey, fault.IdempotencyInvalid},
	} {
		switch values := r.Header.Values(header.name); len(values) {
		case 0:
		case 1:
			*header.into = values[0]
		default:
			return Request{}, header.code.Errorf("%s is sent %d times", header.name, len(values))
		}
	}
	return request, nil
}

// Canonical is the string that is signed. A query that cannot be decoded is fault.MalformedRequest.
func (r Request) Canonical() (string, error) {
	query, err := CanonicalQuery(r.RawQuery)
	if err != nil {
		return "", err
	}
	idempotency := r.IdempotencyKey
	if idempotency == "" {
		idempotency = "-"
	}
	body := sha256.Sum256(r.Body)
	return strings.Join([]string{
		scheme, r.Method, r.Path, query, r.Timestamp, r.Nonce, idempotency, hex.EncodeToString(body[:]),
	}, "\n"), nil
}

// CanonicalQuery decodes the pairs of a query, encodes them again by RFC 3986 and sorts them by encoded name, then by
// encoded value, byte by byte. A plus sign means a space, a pair without "=" has the value "", empty pairs vanish. A bad
// percent escape is fault.MalformedRequest, and so is a raw semicolon, which some readers take for a separator and others
// do not.
func CanonicalQuery(raw string) (string, error) {
	var pairs [][2]string
	for pair := range strings.SplitSeq(raw, "&") {
		if pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		name, err := recode(name)
		if err != nil {
			return "", err
		}
		value, err = recode(value)
		if err != nil {
			return "", err
		}
		pairs = append(pairs, [2]string{name, value})
	}
	slices.SortFunc(pairs, func(a, b [2]string) int {
		if a[0] != b[0] {
			return strings.Compare(a[0], b[0])
		}
		return strings.Compare(a[1], b[1])
	})
	var text strings.Builder
	for i, pair := range pairs {
		if i > 0 {
			text.WriteByte('&')
		}
		text.WriteString(pair[0])
		text.WriteByte('=')
		text.WriteString(pair[1])
	}
	return text.String(), nil
}

func recode(part string) (string, error) {
	decoded, err := url.QueryUnescape(part)
	if err != nil || strings.Contains(part, ";") {
		return "", fault.MalformedRequest.Errorf("the query has a bad percent escape or a raw semicolon")
	}
	var text strings.Builder
	for _, c := range []byte(decoded) {
		if alphanumeric(c) || c == '-' || c == '.' || c == '_' || c == '~' {
			text.WriteByte(c)
			continue
		}
		const digits = "0123456789ABCDEF"
		text.WriteByte('%')
		text.WriteByte(digits[c>>4])
		text.WriteByte(digits[c&15])
	}
	return text.String(), nil
}

// Fingerprint tells requests under one idempotency key apart: SHA-256 over method, path, canonical query and raw body. A
// retry that was signed anew has the same one. r is one that Verify accepted.
func Fingerprint(r Request) [32]byte {
	query, err := CanonicalQuery(r.RawQuery)
	if err != nil {
		query = r.RawQuery // cannot be equal to any canonical query
	}
	h := sha256.New()
	h.Write([]byte(r.Method + "\n" + r.Path + "\n" + query + "\n")) // none of the three can hold a line feed
	h.Write(r.Body)
	return [32]byte(h.Sum(nil))
}

// read checks that everything a signature needs is there and has the form it must have, and gives the signatures and the
// time the request claims.
func (r Request) read() (claimed [][]byte, sent time.Time, err error) {
	for _, header := range [][2]string{
		{HeaderKey, r.KeyID}, {HeaderTimestamp, r.Timestamp}, {HeaderNonce, r.Nonce}, {HeaderSignature, r.Signature},
	} {
		if header[1] == "" {
			return nil, sent, fault.HeaderMissing.Errorf("%s is required", header[0])
		}
	}
	seconds, err := strconv.ParseUint(r.Timestamp, 10, 64)
	switch {
	case !validKeyID(r.KeyID):
		return nil, sent, fault.HeaderMalformed.Errorf("%s must be 1 to %d of A-Z a-z 0-9 . _ -, or the id of a session's key", HeaderKey, maxKeyID)
	case err != nil || len(r.Timestamp) > 12:
		return nil, sent, fault.HeaderMalformed.Errorf("%s must be unix seconds", HeaderTimestamp)
	case !validNonce(r.Nonce):
		return nil, sent, fault.HeaderMalformed.Errorf("%s must be 16 to 64 of A-Z a-z 0-9 _ -", HeaderNonce)
	}
	if claimed, err = signatures(r.Signature); err != nil {
		return nil, sent, err
	}
	switch {
	case r.IdempotencyKey == "-": // would sign like none at all
		return nil, sent, fault.IdempotencyInvalid.Errorf("%s must not be a lone dash", HeaderIdempotency)
	case len(r.IdempotencyKey) > 255 || !visible(r.IdempotencyKey):
		return nil, sent, fault.IdempotencyInvalid.Errorf("%s must be 1 to 255 visible ASCII characters", HeaderIdempotency)
	case r.Method == "" || !visible(r.Method) || !strings.HasPrefix(r.Path, "/") || !visible(r.Path):
		return nil, sent, fault.MalformedRequest.Errorf("the request line cannot be read")
	}
	return claimed, time.Unix(int64(seconds), 0), nil
}

// signatures reads the list of a signature header. Versions that are not known here are passed over, so that a client may
// send a newer one beside v1.
func signatures(header string) ([][]byte, error) {
	malformed := func(why string) ([][]byte, error) {
		return nil, fault.HeaderMalformed.Errorf("%s %s", HeaderSignature, why)
	}
	if len(header) > maxSignatureBytes {
		return malformed("is too long")
	}
	var claimed [][]byte
	entries := strings.Split(header, ",")
	if len(entries) > maxSignatures {
		return malformed("lists more than " + strconv.Itoa(maxSignatures) + " signatures")
	}
	for _, entry := range entries {
		version, text, found := strings.Cut(strings.Trim(entry, " \t"), "=")
		switch {
		case !found || !validVersion(version) || text == "":
			return malformed("must be a comma-separated list of v1=<base64url>")
		case version != scheme:
			continue
		}
		mac, err := signatureText.DecodeString(text)
		if err != nil || len(mac) != 32 || strings.ContainsAny(text, "\r\n") { // the decoder skips line ends
			return malformed("must be base64url of 32 bytes without padding")
		}
		claimed = append(claimed, mac)
	}
	if len(claimed) == 0 {
		return malformed("has no v1 signature")
	}
	return claimed, nil
}

func validVersion(v string) bool {
	if len(v) < 2 || len(v) > 4 || v[0] != 'v' {
		return false
	}
	_, err := strconv.ParseUint(v[1:], 10, 16)
	return err == nil
}

func validNonce(nonce string) bool {
	if len(nonce) < 16 || len(nonce) > 64 {
		return false
	}
	for _, c := range []byte(nonce) {
		if !alphanumeric(c) && c != '-' && c != '_' {
			return false
		}
	}
	return true
}

func visible(text string) bool {
	for _, c := range []byte(text) {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return true
}

func alphanumeric(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z'
}
