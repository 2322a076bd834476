package servicebus

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/google/uuid"

	"liveops/local/servicebus/amqp"
)

// What a client may use of the endpoint, so that none can take it all.
const (
	maxFrame     = 64 << 10
	maxSessions  = 1024
	maxLinks     = 256      // of a session
	maxUnsettled = 1 << 15  // deliveries of a session
	maxPartial   = 64 << 20 // bytes of messages that have not come whole, on a connection
	maxUnwritten = 1 << 20  // bytes that a client has not read before it is not listened to any more
	handshake    = 10 * time.Second
	writeTimeout = 30 * time.Second
)

// conn is a connection. One goroutine reads it and does what is asked, one writes, and one per receiving link waits for
// messages.
type conn struct {
	server *Server
	net    net.Conn
	in     *bufio.Reader
	out    *writer
	ctx    context.Context // it ends with the connection
	end    context.CancelFunc

	peerFrame uint32 // the largest frame that the client reads

	mu       sync.Mutex // of everything below, and of sessions and links
	sessions map[uint16]*session
	partial  int
	working  sync.WaitGroup // links and late answers
}

func newConn(s *Server, nc net.Conn) *conn {
	c := &conn{server: s, net: nc, in: bufio.NewReaderSize(nc, maxFrame), sessions: map[uint16]*session{}}
	c.ctx, c.end = context.WithCancel(s.ctx)
	c.out = newWriter(nc)
	return c
}

// run serves the connection until it ends.
func (c *conn) run() {
	err := c.serve()
	var refusal *amqp.Error
	if errors.As(err, &refusal) {
		c.out.frame(amqp.Frame{Body: &amqp.Close{Error: refusal}})
	}
	if err != nil && !gone(err) {
		c.server.options.Log.Warn("connection ended", slog.String("client", c.net.RemoteAddr().String()), slog.Any("error", err))
	}
	c.end()
	c.out.finish()
	_ = c.net.Close() // it is gone either way
	c.working.Wait()
}

// gone says that the client, or a fault, cut the connection.
func gone(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, io.ErrClosedPipe) || errors.As(err, new(*net.OpError))
}

// cut ends the connection at once, without a word.
func (c *conn) cut() { _ = c.net.Close() }

func (c *conn) serve() error {
	if err := c.net.SetDeadline(time.Now().Add(handshake)); err != nil {
		return err
	}
	open, err := c.handshake()
	if err != nil {
		return err
	}
	c.peerFrame = max(amqp.MinFrameSize, min(open.MaxFrameSize, maxFrame))
	if err := c.net.SetDeadline(time.Time{}); err != nil {
		return err
	}
	// The client must hear something within its idle timeout, and is heard within ours.
	c.out.start(time.Duration(open.IdleTimeout) * time.Millisecond / 2)
	c.out.frame(amqp.Frame{Body: &amqp.Open{
		ContainerID: uuid.NewString(), MaxFrameSize: maxFrame, ChannelMax: maxSessions - 1,
		IdleTimeout: uint32(c.server.options.IdleTimeout.Milliseconds() / 2),
	}})
	for {
		c.out.wait()
		if err := c.net.SetReadDeadline(time.Now().Add(c.server.options.IdleTimeout)); err != nil {
			return err
		}
		frame, err := c.read()
		if err != nil {
			return err
		}
		if _, closing := frame.Body.(*amqp.Close); closing {
			c.out.frame(amqp.Frame{Body: &amqp.Close{}})
			return nil
		}
		if frame.Body == nil {
			continue
		}
		if err := c.dispatch(frame); err != nil {
			return err
		}
	}
}

// read reads a frame. What the client sent wrong is an *amqp.Error.
func (c *conn) read() (amqp.Frame, error) {
	frame, err := amqp.Read(c.in, maxFrame)
	if err == nil || gone(err) || errors.As(err, new(net.Error)) {
		return frame, err
	}
	return frame, &amqp.Error{Condition: FramingError, Description: err.Error()}
}

// handshake goes through SASL, which lets everybody in since tokens follow, and ends with the client's open.
func (c *conn) handshake() (*amqp.Open, error) {
	if err := c.greet(amqp.SASLHeader); err != nil {
		return nil, err
	}
	if err := c.write(&amqp.Mechanisms{Names: []amqp.Symbol{"ANONYMOUS"}}); err != nil {
		return nil, err
	}
	frame, err := c.read()
	if err != nil {
		return nil, err
	}
	choice, ok := frame.Body.(*amqp.Init)
	if !ok || choice.Mechanism != "ANONYMOUS" {
		return nil, errors.Join(errors.New("the client does not authenticate by SASL ANONYMOUS"), c.write(&amqp.Outcome{Code: 1}))
	}
	if err := c.write(&amqp.Outcome{}); err != nil {
		return nil, err
	}
	if err := c.greet(amqp.Header); err != nil {
		return nil, err
	}
	if frame, err = c.read(); err != nil {
		return nil, err
	}
	open, ok := frame.Body.(*amqp.Open)
	if !ok {
		return nil, fmt.Errorf("%T instead of open", frame.Body)
	}
	return open, nil
}

// greet exchanges protocol headers.
func (c *conn) greet(header string) error {
	var got [len(amqp.Header)]byte
	if _, err := io.ReadFull(c.in, got[:]); err != nil {
		return err
	}
	if string(got[:]) != header {
		_, err := io.WriteString(c.net, header) // this is what is spoken here
		return errors.Join(fmt.Errorf("the client begins with %q", got), err)
	}
	_, err := io.WriteString(c.net, header)
	return err
}

// write writes a frame of the handshake, before the writer runs.
func (c *conn) write(body amqp.Performative) error {
	_, err := c.net.Write(amqp.Append(nil, amqp.Frame{Body: body}))
	return err
}

// dispatch does what a frame asks. An error ends the connection.
func (c *conn) dispatch(f amqp.Frame) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.sessions[f.Channel]
	begin, beginning := f.Body.(*amqp.Begin)
	switch {
	case beginning && s != nil:
		return &amqp.Error{Condition: NotAllowed, Description: "the channel has a session"}
	case beginning && f.Channel >= maxSessions:
		return &amqp.Error{Condition: NotAllowed, Description: "the channel is beyond channel-max"}
	case beginning:
		c.sessions[f.Channel] = newSession(c, f.Channel, begin)
		return nil
	case s == nil:
		return &amqp.Error{Condition: NotAllowed, Description: fmt.Sprintf("%T on a channel without a session", f.Body)}
	}
	if _, ending := f.Body.(*amqp.End); ending {
		s.close()
		delete(c.sessions, f.Channel)
		if !s.over {
			s.send(&amqp.End{})
		}
		return nil
	}
	if s.over {
		return nil // it crossed our end
	}
	err := s.dispatch(f)
	if refusal, is := errors.AsType[*amqp.Error](err); is { // it ends the session only
		s.close()
		s.over = true
		s.send(&amqp.End{Error: refusal})
		c.server.options.Log.Warn("session ended", slog.String("error", refusal.Error()))
		return nil
	}
	return err
}

// later does what answers an operation: at once, or by a fault late and without the caller. c.mu is held both times.
func (c *conn) later(delay time.Duration, answer func()) {
	if delay <= 0 {
		answer()
		return
	}
	c.working.Go(func() {
		timer := time.NewTimer(delay)
		defer timer.Stop()
		select {
		case <-timer.C:
			c.mu.Lock()
			defer c.mu.Unlock()
			answer()
		case <-c.ctx.Done():
		}
	})
}

// writer writes frames in the order they were given, as many at once as there are.
type writer struct {
	net   net.Conn
	fresh chan struct{} // there is something to write, or the end
	done  chan struct{} // closed when run ends

	mu    sync.Mutex
	room  sync.Cond // there is room again, or the end
	buf   []byte
	runs  bool
	ended bool
}

func newWriter(nc net.Conn) *writer {
	w := &writer{net: nc, fresh: make(chan struct{}, 1), done: make(chan struct{})}
	w.room.L = &w.mu
	return w
}

// frame gives a frame to write. It does not wait.
func (w *writer) frame(f amqp.Frame) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.ended {
		w.buf = amqp.Append(w.buf, f)
		w.wake()
	}
}

func (w *writer) wake() {
	select {
	case w.fresh <- struct{}{}:
	default:
	}
}

// wait waits until the client has read enough, or the end.
func (w *writer) wait() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.buf) > maxUnwritten && !w.ended {
		w.room.Wait()
	}
}

// start writes until finish, and an empty frame on every beat; 0: never.
func (w *writer) start(beat time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.runs = true
	go w.run(beat)
}

func (w *writer) run(beat time.Duration) {
	defer close(w.done)
	var beats <-chan time.Time
	if beat > 0 {
		ticker := time.NewTicker(beat)
		defer ticker.Stop()
		beats = ticker.C
	}
	var spare []byte
	for {
		out, last := w.swap(spare)
		if len(out) > 0 {
			_ = w.net.SetWriteDeadline(time.Now().Add(writeTimeout)) // a broken connection is found by the write
			if _, err := w.net.Write(out); err != nil {
				_ = w.net.Close() // which the reader finds out
				w.end()
				return
			}
			spare = out
			continue
		}
		if last {
			return
		}
		select {
		case <-w.fresh:
		case <-beats:
			w.frame(amqp.Frame{})
		}
	}
}

// swap takes what is to be written, if anything is, and leaves an empty buffer for it.
func (w *writer) swap(empty []byte) (out []byte, last bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.buf) > 0 {
		out, w.buf = w.buf, empty[:0]
		w.room.Broadcast()
	}
	return out, w.ended
}

// end takes nothing more.
func (w *writer) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
	w.room.Broadcast()
	w.wake()
}

// finish lets what is given be written, and takes nothing more.
func (w *writer) finish() {
	w.end()
	if w.runs {
		<-w.done
	}
}
