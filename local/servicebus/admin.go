package servicebus

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"liveops/core/bus"
)

// Key is a shared access key. It lets its bearer do everything.
type Key struct{ Name, Value string }

// inventory is what can be read of a broker; bus.Memory is one.
type inventory interface {
	Queues() []bus.Queue
	Counts(name string) (bus.Counts, error)
	Size(name string) (int64, error)
}

// Admin answers what the admin client of the SDK and the scaler of KEDA ask the management endpoint of a namespace: it
// describes one queue or lists them, as ATOM feeds. It only reads. A request needs a shared access signature by the key.
//
// A queue is said to be made, changed and used when Admin was made, because the broker does not remember.
func Admin(b inventory, key Key) http.Handler {
	a := &adminEndpoint{inventory: b, since: time.Now().UTC().Format(time.RFC3339Nano)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/xml; charset=utf-8")
		if err := key.signed(r.Header.Get("Authorization"), r.URL.Path, time.Now()); err != nil {
			refuseXML(w, http.StatusUnauthorized, err)
			return
		}
		feed, err := a.read(r)
		if err != nil {
			refuseXML(w, http.StatusBadRequest, err)
			return
		}
		writeXML(w, feed)
	})
	return mux
}

// signed says whether a shared access signature was made with the key for this path or one above it, and is not over. The
// host it was made for does not matter: a caller may know this endpoint by any.
func (k Key) signed(token, path string, now time.Time) error {
	fields, ok := strings.CutPrefix(token, "SharedAccessSignature ")
	if !ok {
		return errors.New("a shared access signature is missing")
	}
	raw := map[string]string{} // still escaped, as the resource was signed
	for field := range strings.SplitSeq(fields, "&") {
		name, value, _ := strings.Cut(field, "=")
		raw[name] = value
	}
	signature, err := url.QueryUnescape(raw["sig"])
	if err != nil {
		return errors.New("the signature cannot be read")
	}
	mac := hmac.New(sha256.New, []byte(k.Value))
	mac.Write([]byte(raw["sr"] + "\n" + raw["se"]))
	if raw["skn"] != url.QueryEscape(k.Name) && raw["skn"] != k.Name ||
		!hmac.Equal([]byte(signature), []byte(base64.StdEncoding.EncodeToString(mac.Sum(nil)))) {
		return errors.New("the signature is not by the key")
	}
	if end, err := strconv.ParseInt(raw["se"], 10, 64); err != nil || !now.Before(time.Unix(end, 0)) {
		return errors.New("the signature is over")
	}
	resource, err := url.QueryUnescape(raw["sr"])
	if err != nil {
		return errors.New("the resource cannot be read")
	}
	// The SDKs sign in lower case.
	if resource = resourcePath(resource); !strings.HasPrefix(strings.ToLower(strings.TrimSuffix(path, "/")+"/"), strings.ToLower(resource)) {
		return errors.New("the signature is for another resource")
	}
	return nil
}

// resourcePath is the path of a resource, which is named with or without a scheme, and ends in a slash.
func resourcePath(resource string) string {
	if _, rest, ok := strings.Cut(resource, "://"); ok {
		resource = rest
	}
	resource, _, _ = strings.Cut(resource, "?")
	_, path, _ := strings.Cut(resource, "/")
	if path = strings.Trim(path, "/"); path == "" {
		return "/"
	}
	return "/" + path + "/"
}

type adminEndpoint struct {
	inventory
	since string
}

// pageSize is how many queues a list has that was not asked for another number.
const pageSize = 100

func (a *adminEndpoint) read(r *http.Request) (any, error) {
	base := "https://" + r.Host
	self := base + r.URL.RequestURI()
	queues := a.Queues()
	name := strings.Trim(r.URL.Path, "/")
	if strings.EqualFold(name, "$Resources/Queues") {
		skip, err := queryNumber(r, "$skip", 0)
		if err != nil {
			return nil, err
		}
		top, err := queryNumber(r, "$top", pageSize)
		if err != nil {
			return nil, err
		}
		list := a.feed("Queues", self)
		queues = queues[min(skip, len(queues)):]
		for _, q := range queues[:min(top, len(queues))] {
			list.Entries = append(list.Entries, a.entry(q, base+"/"+q.Name))
		}
		return list, nil
	}
	if i := slices.IndexFunc(queues, func(q bus.Queue) bool { return q.Name == name }); i >= 0 {
		return a.entry(queues[i], self), nil
	}
	// This is how Service Bus says that there is no such queue: with status 200.
	return a.feed("Publicly Listed Services", self), nil
}

// queryNumber reads a number from the query of a request.
func queryNumber(r *http.Request, name string, otherwise int) (int, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return otherwise, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%s must be a number from 0 on", name)
	}
	return n, nil
}

type atomFeed struct {
	XMLName xml.Name `xml:"http://www.w3.org/2005/Atom feed"`
	atomAbout
	Entries []atomEntry `xml:"entry"`
}

type atomEntry struct {
	XMLName xml.Name `xml:"http://www.w3.org/2005/Atom entry"`
	atomAbout
	Content atomContent `xml:"content"`
}

type atomAbout struct {
	ID      string   `xml:"id"`
	Title   string   `xml:"title"`
	Updated string   `xml:"updated"`
	Link    atomLink `xml:"link"`
}

type atomLink struct {
	Rel  string `xml:"rel,attr"`
	Href string `xml:"href,attr"`
}

type atomContent struct {
	Type  string           `xml:"type,attr"`
	Queue queueDescription `xml:"http://schemas.microsoft.com/netservices/2010/10/servicebus/connect QueueDescription"`
}

// queueDescription has its elements in the order in which Service Bus writes them: its schema is a sequence.
type queueDescription struct {
	LockDuration                        string
	MaxSizeInMegabytes                  int64
	RequiresDuplicateDetection          bool
	RequiresSession                     bool
	DefaultMessageTimeToLive            string
	DeadLetteringOnMessageExpiration    bool
	DuplicateDetectionHistoryTimeWindow string
	MaxDeliveryCount                    int
	EnableBatchedOperations             bool
	SizeInBytes                         int64
	MessageCount                        int
	IsAnonymousAccessible               bool
	Status                              string
	CreatedAt                           string
	UpdatedAt                           string
	AccessedAt                          string
	SupportOrdering                     bool
	CountDetails                        countDetails
	AutoDeleteOnIdle                    string
	EnablePartitioning                  bool
	EntityAvailabilityStatus            string
	EnableExpress                       bool
}

type countDetails struct {
	Active             int `xml:"http://schemas.microsoft.com/netservices/2011/06/servicebus ActiveMessageCount"`
	DeadLetter         int `xml:"http://schemas.microsoft.com/netservices/2011/06/servicebus DeadLetterMessageCount"`
	Scheduled          int `xml:"http://schemas.microsoft.com/netservices/2011/06/servicebus ScheduledMessageCount"`
	Transfer           int `xml:"http://schemas.microsoft.com/netservices/2011/06/servicebus TransferMessageCount"`
	TransferDeadLetter int `xml:"http://schemas.microsoft.com/netservices/2011/06/servicebus TransferDeadLetterMessageCount"`
}

func (a *adminEndpoint) feed(title, self string) atomFeed {
	return atomFeed{atomAbout: atomAbout{ID: self, Title: title, Updated: a.since, Link: atomLink{"self", self}}}
}

func (a *adminEndpoint) entry(q bus.Queue, self string) atomEntry {
	counts, _ := a.Counts(q.Name) // q is there
	size, _ := a.Size(q.Name)
	details := countDetails{Active: counts.Active + counts.Locked + counts.Deferred, DeadLetter: counts.Dead, Scheduled: counts.Scheduled}
	d := queueDescription{
		LockDuration:                        iso8601(q.LockDuration),
		MaxSizeInMegabytes:                  q.MaxBytes >> 20,
		RequiresDuplicateDetection:          q.DuplicateWindow > 0,
		DefaultMessageTimeToLive:            forever,
		DeadLetteringOnMessageExpiration:    true,
		DuplicateDetectionHistoryTimeWindow: iso8601(10 * time.Minute), // Azure's default, which it tells even when it detects none
		MaxDeliveryCount:                    q.MaxDeliveryCount,
		EnableBatchedOperations:             true,
		SizeInBytes:                         size,
		MessageCount:                        details.Active + details.DeadLetter + details.Scheduled,
		Status:                              "Active",
		CreatedAt:                           a.since,
		UpdatedAt:                           a.since,
		AccessedAt:                          a.since,
		SupportOrdering:                     true,
		CountDetails:                        details,
		AutoDeleteOnIdle:                    forever,
		EntityAvailabilityStatus:            "Available",
	}
	if q.TimeToLive > 0 {
		d.DefaultMessageTimeToLive = iso8601(q.TimeToLive)
	}
	if q.DuplicateWindow > 0 {
		d.DuplicateDetectionHistoryTimeWindow = iso8601(q.DuplicateWindow)
	}
	return atomEntry{atomAbout: atomAbout{ID: self, Title: q.Name, Updated: a.since, Link: atomLink{"self", self}}, Content: atomContent{"application/xml", d}}
}

// forever is how Service Bus writes that something has no end: the longest duration of .NET.
const forever = "P10675199DT2H48M5.4775807S"

// iso8601 is d as ISO 8601 has it.
func iso8601(d time.Duration) string {
	days, d := d/(24*time.Hour), d%(24*time.Hour)
	hours, d := d/time.Hour, d%time.Hour
	minutes, d := d/time.Minute, d%time.Minute
	var text, clock string
	if days > 0 {
		text = fmt.Sprintf("%dD", days)
	}
	if hours > 0 {
		clock += fmt.Sprintf("%dH", hours)
	}
	if minutes > 0 {
		clock += fmt.Sprintf("%dM", minutes)
	}
	if d > 0 || text+clock == "" {
		clock += strconv.FormatFloat(d.Seconds(), 'f', -1, 64) + "S"
	}
	if clock != "" {
		text += "T" + clock
	}
	return "P" + text
}

func refuseXML(w http.ResponseWriter, status int, err error) {
	w.WriteHeader(status)
	writeXML(w, struct {
		XMLName xml.Name `xml:"Error"`
		Code    int
		Detail  string
	}{Code: status, Detail: err.Error()})
}

func writeXML(w http.ResponseWriter, document any) {
	_ = xml.NewEncoder(w).Encode(document) // whoever asked has gone
}
