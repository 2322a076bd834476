package host

import (
	"fmt"
	"strings"
	"time"

	"liveops/core/bus"
)

// never is the expiry of a message that has none: .NET's largest time.
var never = time.Date(9999, 12, 31, 23, 59, 59, 999999900, time.UTC)

// single is the trigger value and binding data of a function that takes one message (contract §3.4).
func (f *Function) single(d bus.Delivery, data bindingData) any {
	for _, p := range properties(d) {
		data[p.name] = p.value
	}
	if f.DataType == "binary" {
		return d.Body
	}
	body := strings.ToValidUTF8(string(d.Body), "�")
	data.leak(body)
	return body
}

// many is the trigger value and binding data of a function that takes a batch (contract §3.5). Without a dataType every body is parsed,
// and one that is not JSON fails the whole batch.
func (f *Function) many(batch []bus.Delivery, data bindingData) (any, error) {
	columns := map[string][]any{}
	for _, d := range batch {
		for _, p := range properties(d) {
			columns[p.name] = append(columns[p.name], p.value)
		}
	}
	for name, column := range columns {
		data[name+"Array"] = column
	}
	switch f.DataType {
	case "binary":
		bodies := make([][]byte, len(batch))
		for i, d := range batch {
			bodies[i] = append([]byte{}, d.Body...) // a nil body is an empty one, never null
		}
		return bodies, nil
	case "string":
		bodies := make([]string, len(batch))
		for i, d := range batch {
			bodies[i] = strings.ToValidUTF8(string(d.Body), "�")
		}
		return bodies, nil
	}
	bodies := make([]any, len(batch))
	for i, d := range batch {
		body, err := reparsed(d.Body)
		if err != nil {
			return nil, fmt.Errorf("binding parameters to complex objects (such as 'Object') uses JSON serialization: message %s: %w", d.ID, err)
		}
		bodies[i] = body
	}
	return bodies, nil
}

// actions are the entries that .NET functions settle with. Over HTTP nothing of them is left but their names.
func actions(data bindingData, namespace string) {
	data["Client"] = map[string]any{
		"FullyQualifiedNamespace": namespace, "IsClosed": false, "TransportType": 0, "Identifier": namespace + "-local",
	}
	for _, name := range []string{"MessageReceiver", "MessageSession", "MessageActions", "SessionActions", "ReceiveActions"} {
		data[name] = map[string]any{}
	}
}

type property struct {
	name  string
	value any
}

// properties are a message's broker properties under the host's names, null where the port has no such thing.
func properties(d bus.Delivery) []property {
	expires := d.ExpiresAt.UTC()
	if d.ExpiresAt.IsZero() {
		expires = never
	}
	application := map[string]any{}
	for name, value := range d.Properties {
		application[name] = value
	}
	if d.DeadLetterReason != "" {
		application["DeadLetterReason"] = d.DeadLetterReason
		application["DeadLetterErrorDescription"] = d.DeadLetterDetail
	}
	list := []property{
		{"DeliveryCount", d.DeliveryCount},
		{"DeadLetterSource", orNull(d.DeadLetterSource)},
		{"LockToken", d.LockToken},
		{"ExpiresAtUtc", utcDateTime(expires)},
		{"ExpiresAt", dateTimeOffset(expires)},
		{"EnqueuedTimeUtc", utcDateTime(d.EnqueuedAt)},
		{"EnqueuedTime", dateTimeOffset(d.EnqueuedAt.UTC())},
		{"MessageId", orNull(d.ID)},
		{"ContentType", orNull(d.ContentType)},
		{"SequenceNumber", d.SequenceNumber},
		{"ApplicationProperties", application},
		{"UserProperties", application},
	}
	for _, absent := range []string{
		"ReplyTo", "To", "Subject", "Label", "CorrelationId", "SessionId", "ReplyToSessionId", "PartitionKey", "TransactionPartitionKey",
	} {
		list = append(list, property{absent, nil})
	}
	return list
}

func orNull(text string) any {
	if text == "" {
		return nil
	}
	return text
}
