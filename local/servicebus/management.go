package servicebus

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/google/uuid"

	"liveops/core/bus"
	"liveops/local/servicebus/amqp"
)

// maxAnswer bounds the messages of one answer, in bytes; the first is always among them.
const maxAnswer = 256 << 10

// request is what a client asks of a queue's management, or of the node of tokens.
type request struct {
	server *Server
	queue  string
	about  amqp.Map // application properties
	token  string   // of a put-token
	body   amqp.Map
}

// operation is a request by its name on the wire.
type operation struct {
	name string
	do   func(r request, ctx context.Context) (body amqp.Map, err error)
}

var operations = map[string]operation{
	"put-token":                                  {OpAuthorize, request.authorize},
	"com.microsoft:renew-lock":                   {OpRenew, request.renew},
	"com.microsoft:peek-message":                 {OpPeek, request.peek},
	"com.microsoft:schedule-message":             {OpSchedule, request.schedule},
	"com.microsoft:cancel-scheduled-message":     {OpCancel, request.cancel},
	"com.microsoft:receive-by-sequence-number":   {OpDeferred, request.deferred},
	"com.microsoft:update-disposition/completed": settlement(decision{OpComplete, Broker.Complete}),
	"com.microsoft:update-disposition/abandoned": settlement(decision{OpAbandon, Broker.Abandon}),
	"com.microsoft:update-disposition/defered":   settlement(decision{OpDefer, Broker.Defer}),
	"com.microsoft:update-disposition/suspended": {OpDeadLetter, request.bury},
}

// answer does what a request asks and answers it on the link that it names.
func (c *conn) answer(k *sink, p *partial) {
	m, err := amqp.ParseMessage(p.content)
	if err != nil {
		k.settle(p, &amqp.Error{Condition: DecodeError, Description: err.Error()}, Fault{})
		return
	}
	r := request{server: c.server, queue: k.node.queue, about: m.ApplicationProperties}
	r.body, _ = m.Value.(amqp.Map)
	r.token, _ = m.Value.(string)
	name := text(r.about, "operation")
	if name == "com.microsoft:update-disposition" {
		name += "/" + text(r.body, "disposition-status")
	}
	if name == "put-token" != (k.node.queue == "") {
		name = "elsewhere"
	}
	op, known := operations[name]
	var body amqp.Map
	f := Fault{}
	refusal := &amqp.Error{Condition: NotImplemented, Description: "there is no operation " + name}
	if known {
		if r.queue == "" {
			r.queue = address(audience(text(r.about, "name"))).queue
		}
		f = c.server.fault(Operation{op.name, r.queue})
		refusal = c.perform(f, func(ctx context.Context) *amqp.Error {
			var err error
			body, err = op.do(r, ctx)
			return condition(err)
		})
	}
	if f.Kind == Detach {
		k.session.detach(k.handle, refusal)
		return
	}
	k.settle(p, nil, Fault{})
	answer := answered(m, body, refusal)
	c.later(f.Delay, func() {
		for _, o := range k.session.sources {
			if o.reply == m.Text(amqp.ReplyTo) && o.reply != "" {
				o.answer(answer)
				return
			}
		}
	})
}

// answered is the message that answers a request.
func answered(m *amqp.Message, body amqp.Map, refusal *amqp.Error) *amqp.Message {
	out := amqp.NewMessage(nil)
	out.Properties[amqp.CorrelationID] = m.Property(amqp.MessageID)
	status, description := http.StatusOK, "OK"
	out.ApplicationProperties = amqp.Map{}
	switch {
	case refusal != nil:
		status, description = code(refusal.Condition), refusal.Description
		out.ApplicationProperties["errorCondition"] = refusal.Condition
	case body == nil:
		if text(m.ApplicationProperties, "operation") == "com.microsoft:peek-message" {
			status, description = http.StatusNoContent, "there are no more messages"
		}
	default:
		out.Value = body
	}
	// The node of tokens and that of management have different names for the same.
	out.ApplicationProperties["status-code"], out.ApplicationProperties["statusCode"] = int32(status), int32(status)
	out.ApplicationProperties["status-description"], out.ApplicationProperties["statusDescription"] = description, description
	return out
}

// code is the status of a condition.
func code(c amqp.Symbol) int {
	switch c {
	case LockLost:
		return http.StatusGone
	case NotFound, MessageNotFound:
		return http.StatusNotFound
	case Unauthorized:
		return http.StatusUnauthorized
	case ServerBusy:
		return http.StatusServiceUnavailable
	case NotImplemented:
		return http.StatusNotImplemented
	case DecodeError, NotAllowed:
		return http.StatusBadRequest
	case ResourceLimit:
		return http.StatusForbidden
	}
	return http.StatusInternalServerError
}

// audience is the address that a token is for: the path of a URL.
func audience(name string) string {
	u, err := url.Parse(name)
	if err != nil {
		return name
	}
	return strings.TrimPrefix(u.Path, "/")
}

// authorize takes a token.
func (r request) authorize(context.Context) (amqp.Map, error) {
	if key := r.server.options.Key; key != (Key{}) {
		if err := key.signed(r.token, "/"+audience(text(r.about, "name")), time.Now()); err != nil {
			return nil, &amqp.Error{Condition: Unauthorized, Description: err.Error()}
		}
	}
	if _, err := r.server.broker.Counts(r.queue); err != nil {
		return nil, &amqp.Error{Condition: NotFound, Description: err.Error()}
	}
	return nil, nil
}

func (r request) renew(ctx context.Context) (amqp.Map, error) {
	expirations := amqp.Array{}
	err := r.eachToken(func(d bus.Delivery) error {
		until, err := r.server.broker.Renew(ctx, r.queue, d)
		expirations = append(expirations, until)
		return err
	})
	return amqp.Map{"expirations": expirations}, err
}

func (r request) peek(context.Context) (amqp.Map, error) {
	from, _ := r.body["from-sequence-number"].(int64)
	count, _ := r.body["message-count"].(int32)
	if count < 1 {
		return nil, malformed("message-count")
	}
	peeked, err := r.server.broker.Peek(r.queue, from, int(min(count, handful)))
	if err != nil {
		return nil, err
	}
	var messages []*amqp.Message
	for _, p := range peeked {
		m := outgoing(p.Delivery)
		m.Annotations[annotationState] = int32(p.State)
		messages = append(messages, m)
	}
	return list(messages), nil
}

// list is the body of an answer that holds messages; nil without any.
func list(messages []*amqp.Message) amqp.Map {
	var entries []any
	size := 0
	for _, m := range messages {
		encoded := m.Append(nil)
		if size += len(encoded); size > maxAnswer && len(entries) > 0 {
			break
		}
		entries = append(entries, amqp.Map{"message": encoded})
	}
	if len(entries) == 0 {
		return nil
	}
	return amqp.Map{"messages": entries}
}

func (r request) schedule(ctx context.Context) (amqp.Map, error) {
	entries, _ := r.body["messages"].([]any)
	if len(entries) == 0 {
		return nil, malformed("messages")
	}
	messages := make([]bus.Message, len(entries))
	for i, entry := range entries {
		fields, _ := entry.(amqp.Map)
		encoded, _ := fields["message"].([]byte)
		m, err := amqp.ParseMessage(encoded)
		if err != nil {
			return nil, &amqp.Error{Condition: DecodeError, Description: err.Error()}
		}
		messages[i] = incoming(m)
	}
	numbers, err := r.server.broker.Schedule(ctx, r.queue, messages)
	array := amqp.Array{}
	for _, n := range numbers {
		array = append(array, n)
	}
	return amqp.Map{"sequence-numbers": array}, err
}

func (r request) cancel(ctx context.Context) (amqp.Map, error) {
	numbers, err := r.numbers()
	if err != nil {
		return nil, err
	}
	return nil, r.server.broker.Cancel(ctx, r.queue, numbers)
}

func (r request) deferred(ctx context.Context) (amqp.Map, error) {
	numbers, err := r.numbers()
	if err != nil {
		return nil, err
	}
	deliveries, err := r.server.broker.ReceiveDeferred(ctx, r.queue, numbers)
	if err != nil {
		return nil, err
	}
	locks, _ := r.body["receiver-settle-mode"].(uint32)
	var entries []any
	for _, d := range deliveries {
		m, token := outgoing(d), amqp.UUID(uuid.MustParse(d.LockToken))
		m.DeliveryAnnotations = amqp.Map{annotationLockToken: token}
		entries = append(entries, amqp.Map{"message": m.Append(nil), "lock-token": token})
		if locks == 0 { // receive and delete
			if err := r.server.broker.Complete(ctx, r.queue, d); err != nil {
				return nil, err
			}
		}
	}
	return amqp.Map{"messages": entries}, nil
}

// settlement is the operation that decides about the deliveries of a request.
func settlement(decision decision) operation {
	return operation{decision.name, func(r request, ctx context.Context) (amqp.Map, error) {
		return nil, r.eachToken(func(d bus.Delivery) error { return decision.do(r.server.broker, ctx, r.queue, d) })
	}}
}

func (r request) bury(ctx context.Context) (amqp.Map, error) {
	return settlement(bury(text(r.body, "deadletter-reason"), text(r.body, "deadletter-description"))).do(r, ctx)
}

// eachToken does something with the deliveries whose lock tokens the request names, until it fails.
func (r request) eachToken(do func(bus.Delivery) error) error {
	tokens, _ := r.body["lock-tokens"].(amqp.Array)
	if len(tokens) == 0 {
		return malformed("lock-tokens")
	}
	for _, token := range tokens {
		id, ok := token.(amqp.UUID)
		if !ok {
			return malformed("lock-tokens")
		}
		if err := do(bus.Delivery{LockToken: uuid.UUID(id).String()}); err != nil {
			return err
		}
	}
	return nil
}

func (r request) numbers() ([]int64, error) {
	array, _ := r.body["sequence-numbers"].(amqp.Array)
	if len(array) == 0 {
		return nil, malformed("sequence-numbers")
	}
	numbers := make([]int64, len(array))
	for i, n := range array {
		var ok bool
		if numbers[i], ok = n.(int64); !ok {
			return nil, malformed("sequence-numbers")
		}
	}
	return numbers, nil
}

func malformed(what string) error {
	return &amqp.Error{Condition: DecodeError, Description: what + " is missing or of the wrong type"}
}
