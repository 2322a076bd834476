package stack

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	"liveops/core/bus"
	adapter "liveops/core/bus/servicebus"
	"liveops/local/servicebus"
)

// Namespace is the stack's broker as Azure Service Bus shows one: behind AMQP and, when asked for, a management endpoint that
// says how many messages wait. One key opens both.
type Namespace struct {
	Endpoint         *servicebus.Server // where it fails on demand
	ConnectionString string             // of the endpoint, with the key
	AdminURL         string             // of the management endpoint; empty: there is none
	Certificate      string             // the file of the certificate that the management endpoint shows

	host    *adapter.Bus // the Functions host's, as its extension has a client of its own
	admin   *http.Server
	serving sync.WaitGroup
	log     *slog.Logger
}

// farewell bounds how long the host's connection takes to close.
const farewell = 5 * time.Second

func openNamespace(ctx context.Context, o Options, broker *bus.Memory, secret string) (*Namespace, error) {
	key := servicebus.Key{Name: "liveops", Value: secret}
	n := &Namespace{Endpoint: servicebus.New(broker, servicebus.Options{Key: key, Log: o.Log}), log: o.Log}
	if n.log == nil {
		n.log = slog.New(slog.DiscardHandler)
	}
	if err := n.open(ctx, o, servicebus.Admin(broker, key)); err != nil {
		n.close()
		return nil, err
	}
	return n, nil
}

func (n *Namespace) open(ctx context.Context, o Options, admin http.Handler) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", cmp.Or(o.BusListen, "127.0.0.1:0"))
	if err != nil {
		return err
	}
	n.serve("the Service Bus endpoint", listener, n.Endpoint.Serve)
	n.ConnectionString = n.Endpoint.ConnectionString(reachable(listener.Addr()))
	if n.host, err = adapter.Open(adapter.Config{ConnectionString: n.ConnectionString}); err != nil || o.BusAdmin == "" {
		return err
	}
	name, _, err := net.SplitHostPort(o.BusAdmin)
	if err != nil {
		return err
	}
	n.Certificate = filepath.Join(o.Data, "servicebus.pem")
	certificate, err := certify(n.Certificate, name)
	if err != nil {
		return err
	}
	if listener, err = new(net.ListenConfig).Listen(ctx, "tcp", o.BusAdmin); err != nil {
		return err
	}
	n.AdminURL = "https://" + reachable(listener.Addr())
	n.admin = &http.Server{
		Handler: admin, ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(n.log.Handler(), slog.LevelDebug),
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12},
	}
	n.serve("the management endpoint", listener, func(l net.Listener) error { return n.admin.ServeTLS(l, "", "") })
	return nil
}

func (n *Namespace) serve(what string, listener net.Listener, run func(net.Listener) error) {
	n.serving.Go(func() {
		if err := run(listener); err != nil && !errors.Is(err, http.ErrServerClosed) {
			n.log.Error(what+" ended", slog.Any("error", err))
		}
	})
}

// close returns when nothing of it runs any more. Whoever uses it has ended.
func (n *Namespace) close() {
	if n.host != nil {
		ctx, cancel := context.WithTimeout(context.Background(), farewell)
		defer cancel()
		if err := n.host.Close(ctx); err != nil {
			n.log.Warn("close the host's connection to the queues", slog.Any("error", err))
		}
	}
	_ = n.Endpoint.Close() // a listener that cannot be closed is closed
	if n.admin != nil {
		_ = n.admin.Close()
	}
	n.serving.Wait()
}
