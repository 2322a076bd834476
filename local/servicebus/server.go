// Package servicebus is an endpoint on this machine that the Azure SDK takes for Azure Service Bus: a broker of this process
// behind AMQP 1.0. It is for development and tests: it keeps nothing on disk, checks no token unless it is given a key, and
// does what the SDK for Go needs and no more; sessions, topics and transactions are not among it. What goes wrong on real
// networks goes wrong here on demand. It knows nothing of what a message means.
package servicebus

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"liveops/core/bus"
)

// Broker is what the endpoint speaks for; a *bus.Memory is one. Its promises are those of Memory's methods.
type Broker interface {
	Counts(queue string) (bus.Counts, error)
	Publish(ctx context.Context, queue string, messages []bus.Message) error
	Schedule(ctx context.Context, queue string, messages []bus.Message) ([]int64, error)
	Cancel(ctx context.Context, queue string, sequenceNumbers []int64) error
	Receive(ctx context.Context, queue string, limit int) ([]bus.Delivery, error)
	ReceiveAndDelete(ctx context.Context, queue string, limit int) ([]bus.Delivery, error)
	ReceiveDeferred(ctx context.Context, queue string, sequenceNumbers []int64) ([]bus.Delivery, error)
	Peek(queue string, from int64, limit int) ([]bus.Peeked, error)
	Complete(ctx context.Context, queue string, d bus.Delivery) error
	Abandon(ctx context.Context, queue string, d bus.Delivery) error
	Release(ctx context.Context, queue string, d bus.Delivery) error
	Defer(ctx context.Context, queue string, d bus.Delivery) error
	DeadLetter(ctx context.Context, queue string, d bus.Delivery, reason, detail string) error
	Renew(ctx context.Context, queue string, d bus.Delivery) (time.Time, error)
}

var _ Broker = (*bus.Memory)(nil)

// Options say how a Server behaves. The zero value is the Standard tier of Service Bus for whoever asks.
type Options struct {
	Key            Key           // whose tokens are let in; zero: every token
	MaxMessageSize uint64        // of a message or a batch, in bytes; default 256 KB
	IdleTimeout    time.Duration // after which a silent client is cut off; default 4 min
	Log            *slog.Logger  // what clients do wrong; nil: nowhere
}

// Server is an endpoint. It is safe for concurrent use.
type Server struct {
	broker  Broker
	options Options
	faults  atomic.Pointer[func(Operation) Fault]

	ctx     context.Context // it ends with Close, and everything of this server with it
	end     context.CancelFunc
	mu      sync.Mutex
	closed  bool
	closers map[interface{ Close() error }]bool
	running sync.WaitGroup
}

// New makes a Server that speaks for a broker.
func New(broker Broker, options Options) *Server {
	options.MaxMessageSize = cmp.Or(options.MaxMessageSize, 256<<10)
	options.IdleTimeout = cmp.Or(options.IdleTimeout, 4*time.Minute)
	if options.Log == nil {
		options.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{broker: broker, options: options, closers: map[interface{ Close() error }]bool{}}
	s.ctx, s.end = context.WithCancel(context.Background())
	return s
}

// Serve takes connections from a listener, a TLS one if clients are to speak TLS, until Close or an error of the listener.
func (s *Server) Serve(listener net.Listener) error {
	if !s.start(listener) {
		return net.ErrClosed
	}
	defer s.finish(listener)
	for {
		conn, err := listener.Accept()
		if err != nil {
			if s.ctx.Err() != nil {
				return nil
			}
			return err
		}
		s.take(conn)
	}
}

// Dial connects within this process: no port, no TLS.
func (s *Server) Dial(ctx context.Context) (net.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	client, server := net.Pipe()
	s.take(server)
	return client, nil
}

// Close cuts every connection, stops listening and returns when nothing of the server runs any more.
func (s *Server) Close() error {
	s.mu.Lock()
	s.closed = true
	s.end()
	var errs []error
	for closer := range s.closers {
		if err := closer.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	s.mu.Unlock()
	s.running.Wait()
	return errors.Join(errs...)
}

// Cut drops every connection there is. New ones are taken.
func (s *Server) Cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for closer := range s.closers {
		if c, is := closer.(net.Conn); is {
			_ = c.Close() // it is gone either way
		}
	}
}

// ConnectionString names the endpoint at an address without TLS to the SDK.
func (s *Server) ConnectionString(address string) string {
	key := s.options.Key
	return "Endpoint=sb://" + address + ";SharedAccessKeyName=" + cmp.Or(key.Name, "any") +
		";SharedAccessKey=" + cmp.Or(key.Value, "any") + ";UseDevelopmentEmulator=true"
}

func (s *Server) take(nc net.Conn) {
	f := s.fault(Operation{Name: OpConnect})
	if !s.start(nc) || f.Kind != None {
		_ = nc.Close() // a client that is refused learns no more
		s.finish(nc)
		return
	}
	go func() {
		defer s.finish(nc)
		select {
		case <-time.After(f.Delay):
			newConn(s, nc).run()
		case <-s.ctx.Done():
		}
	}()
}

// start counts what runs until finish, and gives Close a way to end it.
func (s *Server) start(closer interface{ Close() error }) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.closers[closer] = true
	s.running.Add(1)
	return true
}

func (s *Server) finish(closer interface{ Close() error }) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closers[closer] {
		delete(s.closers, closer)
		s.running.Done()
	}
}
