package servicebus

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/Azure/go-amqp"

	"liveops/core/bus"
)

const (
	// width is how many batches are under way on each connection before another one is opened.
	width = 4
	// tries is how often something is tried, each time on another connection.
	tries = 3
	// pause is waited before the second try, four times as long before the third.
	pause = 50 * time.Millisecond
	// farewell bounds how long a lost connection is closed: its other end may be gone.
	farewell = time.Second
)

// connection is a client of the SDK, which is one TCP connection that all its links share. The client mends by itself what
// has ended. It does nothing about a connection that is silent, and needs four seconds to settle after one that ended; so
// where it does not succeed soon it is put away with everything on it.
type connection struct {
	client    *azservicebus.Client
	senders   map[string]*azservicebus.Sender // by queue, as are receivers
	receivers map[string]*receiver
	users     int
	batches   int // under way
	lost      bool
	halted    chan struct{} // closed by halt
	halt      func()        // ends what is being received; it may be called again
}

// receiver is one link; the SDK allows one receive at a time on it, and settling beside it.
type receiver struct {
	*azservicebus.Receiver
	turn chan struct{}
	vain int // receives in a row that gave neither messages nor an error; whose turn it is has it
}

// errVain says that a link has ended and the SDK does not see it: it does not open one anew that ended because the broker is
// busy.
var errVain = errors.New("the broker ended the link")

// try runs do on a connection, and on another one when the first is lost: a connection is that has no answer after
// patience, which is doubled each time. load is the number of batches that do sends.
func (b *Bus) try(ctx context.Context, load int, patience time.Duration, do func(ctx context.Context, c *connection) error) error {
	for n := 0; ; n++ {
		c, err := b.borrow(load)
		if err != nil {
			return err
		}
		once, cancel := context.WithTimeout(ctx, patience<<n)
		err = do(once, c)
		cancel()
		gone := lost(err) || ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded)
		b.giveBack(c, load, gone)
		if !gone || n == tries-1 {
			return err
		}
		select {
		case <-time.After(pause << (2 * n)):
		case <-ctx.Done():
			return err
		}
	}
}

// lost says that the SDK gave up a link or its connection, or should have: a link that ended because the broker is busy it
// goes on using, in vain.
func lost(err error) bool {
	var sdk *azservicebus.Error
	var link *amqp.LinkError
	return errors.Is(err, errVain) || errors.As(err, &link) ||
		errors.As(err, &sdk) && (sdk.Code == azservicebus.CodeConnectionLost || sdk.Code == azservicebus.CodeClosed)
}

// borrow gives the first connection that has room for a load of batches, so that the others are used only when it has not,
// and opened only when none has. When no more may be opened it is the one with the fewest batches. Without a load it is the
// first one.
func (b *Bus) borrow(load int) (*connection, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended {
		return nil, shuttingDown()
	}
	c, err := b.pick(load)
	if err != nil {
		return nil, err
	}
	c.users++
	c.batches += load
	return c, nil
}

func (b *Bus) pick(load int) (*connection, error) {
	for _, c := range b.connections {
		if load == 0 || c.batches < width {
			return c, nil
		}
	}
	if len(b.connections) == b.most {
		return slices.MinFunc(b.connections, func(a, b *connection) int { return cmp.Compare(a.batches, b.batches) }), nil
	}
	client, err := b.client()
	if err != nil {
		return nil, err
	}
	halted := make(chan struct{})
	c := &connection{
		client: client, senders: map[string]*azservicebus.Sender{}, receivers: map[string]*receiver{},
		halted: halted, halt: sync.OnceFunc(func() { close(halted) }),
	}
	if b.closed { // it is for what drains
		c.halt()
	}
	b.connections = append(b.connections, c)
	return c, nil
}

// giveBack ends a use. A lost connection serves nobody new, and is closed when its last user is done.
func (b *Bus) giveBack(c *connection, load int, lost bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c.users--
	c.batches -= load
	if lost && !c.lost {
		c.lost = true
		c.halt()
		b.connections = slices.DeleteFunc(b.connections, func(other *connection) bool { return other == c })
	}
	if c.lost && c.users == 0 {
		b.running.Go(func() { // whoever found it lost has waited enough
			ctx, cancel := context.WithTimeout(context.Background(), farewell)
			defer cancel()
			_ = c.client.Close(ctx) // a lost connection cannot be closed better than by forgetting it
		})
	}
}

func (b *Bus) sender(c *connection, queue string) (*azservicebus.Sender, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s, ok := c.senders[queue]; ok {
		return s, nil
	}
	s, err := c.client.NewSender(queue, nil)
	if err == nil {
		c.senders[queue] = s
	}
	return s, err
}

func (b *Bus) receiver(c *connection, queue string) (*receiver, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if r, ok := c.receivers[queue]; ok {
		return r, nil
	}
	options := &azservicebus.ReceiverOptions{}
	base, dead := strings.CutSuffix(queue, bus.DeadLetters(""))
	if dead {
		options.SubQueue = azservicebus.SubQueueDeadLetter
	}
	r, err := c.client.NewReceiverForQueue(base, options)
	if err != nil {
		return nil, err
	}
	c.receivers[queue] = &receiver{Receiver: r, turn: make(chan struct{}, 1)}
	return c.receivers[queue], nil
}
