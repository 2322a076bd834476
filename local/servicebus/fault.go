package servicebus

import (
	"cmp"
	"time"

	"liveops/local/servicebus/amqp"
)

// Operation is something that a client asks of the endpoint.
type Operation struct {
	Name  string // one of the Op constants
	Queue string // empty for OpConnect
}

// What clients ask.
const (
	OpConnect    = "connect"
	OpAuthorize  = "authorize"
	OpAttach     = "attach"
	OpSend       = "send"
	OpReceive    = "receive" // the delivery of messages to a client
	OpComplete   = "complete"
	OpAbandon    = "abandon"
	OpRelease    = "release"
	OpDefer      = "defer"
	OpDeadLetter = "dead-letter"
	OpRenew      = "renew"
	OpPeek       = "peek"
	OpSchedule   = "schedule"
	OpCancel     = "cancel"
	OpDeferred   = "receive-deferred"
)

// Fault is what goes wrong with an operation.
type Fault struct {
	Kind      FaultKind
	Condition amqp.Symbol   // of Refuse and Detach; when empty, ServerBusy and DetachForced
	Delay     time.Duration // by which the answer is late, whether anything is wrong or not
}

// FaultKind says how an operation goes wrong.
type FaultKind int

// The kinds of faults. OpConnect knows no difference among them. OpReceive, which nobody waits for an answer to, is detached
// instead of refused.
const (
	None      FaultKind = iota
	Refuse              // it is not done, and answered with the condition
	Detach              // it is not done, and its link is ended with the condition
	Drop                // it is not done, and the connection is cut
	DropAfter           // it is done, and the connection is cut before the answer
)

// Conditions, as Azure gives them.
const (
	ServerBusy       amqp.Symbol = "com.microsoft:server-busy"
	LockLost         amqp.Symbol = "com.microsoft:message-lock-lost"
	MessageNotFound  amqp.Symbol = "com.microsoft:message-not-found"
	InternalError    amqp.Symbol = "amqp:internal-error"
	NotFound         amqp.Symbol = "amqp:not-found"
	Unauthorized     amqp.Symbol = "amqp:unauthorized-access"
	NotAllowed       amqp.Symbol = "amqp:not-allowed"
	NotImplemented   amqp.Symbol = "amqp:not-implemented"
	DecodeError      amqp.Symbol = "amqp:decode-error"
	ResourceLimit    amqp.Symbol = "amqp:resource-limit-exceeded"
	DetachForced     amqp.Symbol = "amqp:link:detach-forced"
	MessageTooLarge  amqp.Symbol = "amqp:link:message-size-exceeded"
	ConnectionForced amqp.Symbol = "amqp:connection:forced"
	FramingError     amqp.Symbol = "amqp:connection:framing-error"
	UnknownHandle    amqp.Symbol = "amqp:session:unattached-handle"
)

// onDemand is the description of what a Fault caused.
const onDemand = "on demand of a test"

// Fail asks hook before every operation what goes wrong with it. It is called concurrently. nil ends that.
func (s *Server) Fail(hook func(Operation) Fault) {
	if hook == nil {
		s.faults.Store(nil)
		return
	}
	s.faults.Store(&hook)
}

func (s *Server) fault(o Operation) Fault {
	hook := s.faults.Load()
	if hook == nil {
		return Fault{}
	}
	f := (*hook)(o)
	if o.Name == OpReceive && f.Kind == Refuse {
		f.Kind = Detach
	}
	if f.Condition == "" && f.Kind == Detach {
		f.Condition = DetachForced
	}
	f.Condition = cmp.Or(f.Condition, ServerBusy)
	return f
}
