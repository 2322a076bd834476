package server

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// identity is the files of a server that proves who it is: its certificate and key, and the CA's certificate.
type identity struct{ ca, certificate, key string }

// identify makes a CA for this run only, whose key is thrown away, and has it vouch for a server at 127.0.0.1. The name
// localhost is left out: tests reach the server by it to see it refused.
func identify(dir string) (identity, error) {
	now := time.Now()
	template := func(name string) *x509.Certificate {
		serial, _ := rand.Int(rand.Reader, big.NewInt(1<<62)) // crypto/rand does not fail
		return &x509.Certificate{
			SerialNumber: serial, Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(0, 0, 7),
			BasicConstraintsValid: true,
		}
	}
	authority := template("liveops throw-away CA")
	authority.IsCA, authority.KeyUsage = true, x509.KeyUsageCertSign
	server := template("liveops test server")
	server.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	server.KeyUsage, server.ExtKeyUsage = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}

	authorityKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return identity{}, err
	}
	serverKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return identity{}, err
	}
	key, err := x509.MarshalPKCS8PrivateKey(serverKey)
	if err != nil {
		return identity{}, err
	}
	sign := func(certificate *x509.Certificate, public crypto.PublicKey) []byte {
		var signed []byte
		if err == nil {
			signed, err = x509.CreateCertificate(rand.Reader, certificate, authority, public, authorityKey)
		}
		return signed
	}
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err == nil {
			text := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
			err = os.WriteFile(path, text, 0o644) //nolint:gosec // the server's user reads it, in a directory of its own
		}
		return path
	}
	files := identity{
		ca:          write("ca.pem", "CERTIFICATE", sign(authority, authorityKey.Public())),
		certificate: write("server.pem", "CERTIFICATE", sign(server, serverKey.Public())),
		key:         write("server.key", "PRIVATE KEY", key),
	}
	return files, err
}
