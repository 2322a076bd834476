package server

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestIdentity(t *testing.T) {
	t.Parallel()
	one, err := identify(t.TempDir())
	require.NoError(t, err)
	other, err := identify(t.TempDir())
	require.NoError(t, err)
	trust := func(files identity) *x509.CertPool {
		text, err := os.ReadFile(files.ca)
		require.NoError(t, err)
		pool := x509.NewCertPool()
		require.True(t, pool.AppendCertsFromPEM(text))
		return pool
	}
	pair, err := tls.LoadX509KeyPair(one.certificate, one.key)
	require.NoError(t, err, "the key belongs to the certificate")
	for name, test := range map[string]struct {
		host string
		by   identity
		at   time.Time
		want string
	}{
		"its own CA":    {"127.0.0.1", one, time.Now(), ""},
		"another CA":    {"127.0.0.1", other, time.Now(), "unknown authority"},
		"another name":  {"localhost", one, time.Now(), "localhost"},
		"a month later": {"127.0.0.1", one, time.Now().AddDate(0, 1, 0), "expired"},
	} {
		_, err := pair.Leaf.Verify(x509.VerifyOptions{DNSName: test.host, Roots: trust(test.by), CurrentTime: test.at})
		if test.want == "" {
			require.NoError(t, err, name)
		} else {
			require.ErrorContains(t, err, test.want, name)
		}
	}
	_, err = identify("/no/such/directory")
	require.ErrorContains(t, err, "ca.pem")
}
