// Command apiserver is the API server of Kubernetes, with its etcd in the same process, for checking that a real one takes the
// manifests of deploy/. It keeps everything in the folder it is given, and writes a kubeconfig there when it answers. It runs
// no controller and no kubelet: what it accepts is stored, and no pod starts. It is a module of its own, so that nothing of
// Kubernetes is among the dependencies of the system.
package main

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"k8s.io/component-base/cli"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: apiserver FOLDER")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(dir string) error {
	store, err := startEtcd(filepath.Join(dir, "etcd"))
	if err != nil {
		return fmt.Errorf("etcd: %w", err)
	}
	defer store.Close()
	key, tokens, token := filepath.Join(dir, "accounts.pem"), filepath.Join(dir, "tokens.csv"), rand.Text()
	if err := writeKey(key); err != nil {
		return err
	}
	if err := os.WriteFile(tokens, []byte(token+",checker,checker,system:masters\n"), 0o600); err != nil {
		return err
	}
	address, err := free()
	if err != nil {
		return err
	}
	host, port, _ := net.SplitHostPort(address)
	command := app.NewAPIServerCommand()
	command.SetArgs([]string{
		"--etcd-servers=" + store.Config().AdvertiseClientUrls[0].String(), "--bind-address=" + host, "--secure-port=" + port,
		"--cert-dir=" + filepath.Join(dir, "certificates"), "--token-auth-file=" + tokens, "--authorization-mode=RBAC",
		"--service-account-issuer=https://kubernetes.default.svc", "--service-account-key-file=" + key, "--service-account-signing-key-file=" + key,
		"--disable-admission-plugins=ServiceAccount", // no controller makes the tokens it would ask for
	})
	go announce(dir, "https://"+address, token)
	if code := cli.Run(command); code != 0 {
		return fmt.Errorf("the API server ended with %d", code)
	}
	return nil
}

func startEtcd(dir string) (*embed.Etcd, error) {
	config := embed.NewConfig()
	config.Dir, config.LogLevel, config.UnsafeNoFsync = dir, "error", true
	client, err := free()
	if err != nil {
		return nil, err
	}
	peer, err := free()
	if err != nil {
		return nil, err
	}
	config.ListenClientUrls, config.AdvertiseClientUrls = locally(client), locally(client)
	config.ListenPeerUrls, config.AdvertisePeerUrls = locally(peer), locally(peer)
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	etcd, err := embed.StartEtcd(config)
	if err != nil {
		return nil, err
	}
	select {
	case <-etcd.Server.ReadyNotify():
		return etcd, nil
	case err := <-etcd.Err():
		return nil, err
	case <-time.After(time.Minute):
		return nil, errors.New("not ready after a minute")
	}
}

// announce writes the kubeconfig as soon as the server is ready.
func announce(dir, server, token string) {
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} // of this process, on this machine
	for ; ; time.Sleep(100 * time.Millisecond) {
		request, err := http.NewRequest(http.MethodGet, server+"/readyz", nil)
		if err != nil {
			panic(err)
		}
		request.Header.Set("Authorization", "Bearer "+token)
		answer, err := client.Do(request)
		if err != nil {
			continue
		}
		answer.Body.Close()
		if answer.StatusCode == http.StatusOK {
			break
		}
	}
	config := fmt.Sprintf(`apiVersion: v1
kind: Config
clusters: [{name: check, cluster: {server: %q, insecure-skip-tls-verify: true}}]
users: [{name: checker, user: {token: %q}}]
contexts: [{name: check, context: {cluster: check, user: checker}}]
current-context: check
`, server, token)
	draft := filepath.Join(dir, "kubeconfig.new")
	if err := errors.Join(os.WriteFile(draft, []byte(config), 0o600), os.Rename(draft, filepath.Join(dir, "kubeconfig"))); err != nil {
		panic(err)
	}
}

func writeKey(file string) error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	block := &pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}
	return os.WriteFile(file, pem.EncodeToMemory(block), 0o600)
}

// free gives an address of the loopback interface that nobody listens on.
func free() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return listener.Addr().String(), listener.Close()
}

func locally(address string) []url.URL { return []url.URL{{Scheme: "http", Host: address}} }
