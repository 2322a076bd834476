// Package wire is a TCP connection to a server that a test can cut, mend and watch. It knows nothing of what is said on it.
package wire

import (
	"bytes"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
)

// Wire takes connections and carries each on to one server. It is safe for concurrent use.
type Wire struct {
	URL string // the server's, with the wire in between

	target   string
	listener net.Listener
	watch    atomic.Pointer[Watcher]

	mu    sync.Mutex
	cut   bool
	conns map[net.Conn]bool
}

// Watcher sees every exchange twice: before the first bytes of the request reach the server, and, with answered set, before
// the first bytes of the answer reach the client, when the server has done what it was asked. Nothing moves on that
// connection meanwhile. false cuts the connection instead of passing the bytes on. request is as much of the request as came
// at once; it must not be changed. It is called concurrently.
type Watcher func(request []byte, answered bool) (pass bool)

// New lays a wire to the server of a URL.
func New(server string) (*Wire, error) {
	u, err := url.Parse(server)
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // returns at once
	if err != nil {
		return nil, err
	}
	w := &Wire{target: u.Host, listener: listener, conns: map[net.Conn]bool{}}
	u.Host = listener.Addr().String()
	w.URL = u.String()
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			go w.connect(client)
		}
	}()
	return w, nil
}

// Cut breaks every connection, and new ones as they come, until Mend.
func (w *Wire) Cut() { w.set(true) }

// Mend lets new connections through again.
func (w *Wire) Mend() { w.set(false) }

// Watch shows all further exchanges to a watcher; nil ends that.
func (w *Wire) Watch(watcher Watcher) {
	if watcher == nil {
		w.watch.Store(nil)
		return
	}
	w.watch.Store(&watcher)
}

// Close cuts the wire for good.
func (w *Wire) Close() {
	_ = w.listener.Close() // it listens to nobody any more either way
	w.Cut()
}

func (w *Wire) set(cut bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = cut
	if cut {
		for c := range w.conns {
			_ = c.Close()
		}
	}
}

// hold takes part in cuts from now on, unless the wire is cut already.
func (w *Wire) hold(conns ...net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cut {
		return false
	}
	for _, c := range conns {
		w.conns[c] = true
	}
	return true
}

func (w *Wire) release(conns ...net.Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range conns {
		_ = c.Close()
		delete(w.conns, c)
	}
}

// connect carries one connection until either end, the watcher or a cut breaks it.
func (w *Wire) connect(client net.Conn) {
	server, err := net.Dial("tcp", w.target) //nolint:noctx // a loopback address answers or refuses at once
	if err != nil {
		_ = client.Close()
		return
	}
	defer w.release(client, server)
	if !w.hold(client, server) {
		return
	}
	var talk exchange
	done := make(chan struct{}, 2)
	carry := func(from, to net.Conn, answering bool) {
		defer func() { done <- struct{}{} }()
		buffer := make([]byte, 32<<10)
		for {
			n, err := from.Read(buffer)
			if n > 0 {
				if request, first := talk.heard(buffer[:n], answering); first && !w.passes(request, answering) {
					return
				}
				if _, err := to.Write(buffer[:n]); err != nil {
					return
				}
			}
			if err != nil {
				return
			}
		}
	}
	go carry(client, server, false)
	go carry(server, client, true)
	<-done
}

func (w *Wire) passes(request []byte, answered bool) bool {
	watcher := w.watch.Load()
	return watcher == nil || (*watcher)(request, answered)
}

// exchange is where a connection stands: whether the client said something that the server has not begun to answer.
type exchange struct {
	mu      sync.Mutex
	asked   bool
	request []byte
}

// heard takes bytes in and gives the request they belong to, and whether they are the first of it or of its answer.
func (e *exchange) heard(text []byte, answering bool) (request []byte, first bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	first = e.asked == answering
	e.asked = !answering
	if first && !answering {
		e.request = bytes.Clone(text)
	}
	return e.request, first
}
