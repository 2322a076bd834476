package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"liveops/core/fault"
	"liveops/core/signing"
	"liveops/local/replay"
)

const (
	clientTimeout = 30 * time.Second // of one request
	maxAnswer     = 16 << 20         // bytes of an answer
)

// address is the flag of commands that talk to a system.
type address struct {
	URL string `help:"Address of the gateway." default:"http://127.0.0.1:8080"`
}

// Validate implements kong's check of the flags.
func (a address) Validate() error {
	if !isAddress(a.URL) {
		return errors.New("--url must look like http://host:port")
	}
	return nil
}

// isAddress says whether a text is the URL of a server and nothing more.
func isAddress(text string) bool {
	u, err := url.Parse(text)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && strings.Trim(u.Path, "/") == "" && u.RawQuery == ""
}

// identity is the flags of commands whose requests are signed.
type identity struct {
	KeyID      string `help:"Id of the key to sign with." default:"dev-server"`
	SecretFile string `help:"File with the key's secret; liveops dev writes DIR/dev-server.secret." type:"existingfile" placeholder:"FILE" required:""`
}

// operator is the flags of commands for which an admin's key is needed.
type operator struct {
	KeyID      string `help:"Id of the key to sign with, one of class admin." default:"dev-admin"`
	SecretFile string `help:"File with the key's secret; liveops dev writes DIR/dev-admin.secret." type:"existingfile" placeholder:"FILE" required:""`
}

// optionalIdentity is the flags of commands that may ask unsigned too.
type optionalIdentity struct {
	KeyID      string `help:"Id of the key to sign with." default:"dev-server"`
	SecretFile string `help:"File with the key's secret; without it the request is not signed." type:"existingfile" placeholder:"FILE"`
}

// key reads the key. One that no gateway would take is an error.
func (i identity) key() (signing.Key, error) {
	text, err := os.ReadFile(i.SecretFile)
	if err != nil {
		return signing.Key{}, err
	}
	key := signing.Key{
		ID: i.KeyID, Class: signing.Server, State: signing.Active, Secrets: []signing.Secret{signing.Secret(strings.TrimSpace(string(text)))},
	}
	check := key
	if s, is := signing.ParseSessionID(key.ID); is {
		key.Class, key.Player, key.Expires, key.Generation = signing.Session, s.Player, s.Expires, s.Generation
		check.ID = "session" // nothing but the secret can be wrong
	}
	if _, err := signing.NewKeyring([]signing.Key{check}); err != nil {
		return signing.Key{}, fmt.Errorf("%s: %w", i.SecretFile, err)
	}
	return key, nil
}

// client asks one system. Without a key its requests are not signed.
type client struct {
	url         string
	key         *signing.Key
	idempotency string // the Idempotency-Key of its requests; "" for none
}

// signed is a client with the key of an identity.
func (a address) signed(i identity) (client, error) {
	key, err := i.key()
	return client{url: strings.TrimSuffix(a.URL, "/"), key: &key}, err
}

// maybeSigned is a client with the key of an identity, or without one where none is given.
func (a address) maybeSigned(i optionalIdentity) (client, error) {
	if i.SecretFile == "" {
		return client{url: strings.TrimSuffix(a.URL, "/")}, nil
	}
	return a.signed(identity(i))
}

// do makes a request and reads the answer into answer. Any answer but 2xx is an error.
func (c client) do(ctx context.Context, method, path string, body []byte, answer any) error {
	ctx, stop := context.WithTimeout(ctx, clientTimeout)
	defer stop()
	response, err := c.send(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer response.Body.Close() //nolint:errcheck // read to its end below
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, answer); err != nil {
		return fmt.Errorf("%s does not answer as a gateway: %w", c.url, err)
	}
	return nil
}

// send makes a request and gives the answer, whose body is still to be read. Any answer but 2xx is an error. A system whose clock
// stands elsewhere is asked once more, at its own time.
func (c client) send(ctx context.Context, method, path string, body []byte) (*http.Response, error) {
	response, err := c.sendAt(ctx, time.Now(), method, path, body)
	if p, is := errors.AsType[*replay.Problem](err); is && p.Code == string(fault.TimestampOutside) && p.ServerTime > 0 {
		return c.sendAt(ctx, time.Unix(p.ServerTime, 0), method, path, body)
	}
	return response, err
}

func (c client) sendAt(ctx context.Context, now time.Time, method, path string, body []byte) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, method, c.url+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Close = true // on a kept connection net/http might send the same bytes twice, and the nonce is good once
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if c.idempotency != "" {
		request.Header.Set(signing.HeaderIdempotency, c.idempotency)
	}
	if c.key != nil {
		if err := signing.SignHTTP(request, *c.key, body, now, signing.NewNonce()); err != nil {
			return nil, err
		}
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil || response.StatusCode/100 == 2 {
		return response, err
	}
	defer response.Body.Close() //nolint:errcheck // read as far as it says something
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return nil, err
	}
	problem := replay.ReadProblem(response.Status, text)
	if c.key == nil && problem.Code == string(fault.HeaderMissing) {
		return nil, errors.New("this may only be read with a signature: give --secret-file")
	}
	return nil, problem
}
