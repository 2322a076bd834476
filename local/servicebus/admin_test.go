package servicebus

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus/admin"
	"github.com/stretchr/testify/require"

	"liveops/core/bus"
)

var adminKey = Key{Name: "root key", Value: "c2VjcmV0IQ=="}

// adminNamespace serves a broker with two queues; in "events" one message is active, locked, deferred, scheduled and dead each.
func adminNamespace(t *testing.T) *httptest.Server {
	t.Helper()
	m := bus.NewMemory(time.Now,
		bus.Queue{
			Name: "events", LockDuration: 90 * time.Second, MaxDeliveryCount: 7, DuplicateWindow: 25 * time.Hour, TimeToLive: 36 * time.Hour,
			MaxBytes: 5 << 20,
		},
		bus.Queue{Name: "other/nested"})
	messages := []bus.Message{{ID: "dead"}, {ID: "deferred"}, {ID: "locked"}, {ID: "active"}, {ID: "scheduled", ScheduledAt: time.Now().Add(time.Hour)}}
	for i := range messages {
		messages[i].Body = make([]byte, 20)
	}
	require.NoError(t, m.Publish(t.Context(), "events", messages))
	got, err := m.Receive(t.Context(), "events", 3)
	require.NoError(t, err)
	require.NoError(t, m.DeadLetter(t.Context(), "events", got[0], "poison", ""))
	require.NoError(t, m.Defer(t.Context(), "events", got[1]))
	server := httptest.NewTLSServer(Admin(m, adminKey))
	t.Cleanup(server.Close)
	return server
}

func adminClient(t *testing.T, server *httptest.Server, key Key) *admin.Client {
	t.Helper()
	c, err := admin.NewClientFromConnectionString(
		fmt.Sprintf("Endpoint=sb://%s;SharedAccessKeyName=%s;SharedAccessKey=%s", server.Listener.Addr(), key.Name, key.Value),
		&admin.ClientOptions{ClientOptions: azcore.ClientOptions{Transport: server.Client(), Retry: policy.RetryOptions{MaxRetries: -1}}})
	require.NoError(t, err)
	return c
}

func TestAdminClientReadsAQueue(t *testing.T) {
	t.Parallel()
	start := time.Now()
	c := adminClient(t, adminNamespace(t), adminKey)

	queue, err := c.GetQueue(t.Context(), "events", nil)
	require.NoError(t, err)
	require.Equal(t, "events", queue.QueueName)
	require.Equal(t, "PT1M30S", *queue.LockDuration)
	require.EqualValues(t, 7, *queue.MaxDeliveryCount)
	require.EqualValues(t, 5, *queue.MaxSizeInMegabytes)
	require.Equal(t, "P1DT12H", *queue.DefaultMessageTimeToLive)
	require.True(t, *queue.DeadLetteringOnMessageExpiration)
	require.True(t, *queue.RequiresDuplicateDetection)
	require.Equal(t, "P1DT1H", *queue.DuplicateDetectionHistoryTimeWindow)
	require.False(t, *queue.RequiresSession)
	require.Equal(t, admin.EntityStatusActive, *queue.Status)

	state, err := c.GetQueueRuntimeProperties(t.Context(), "events", nil)
	require.NoError(t, err)
	require.EqualValues(t, 3, state.ActiveMessageCount, "active, locked and deferred")
	require.EqualValues(t, 1, state.DeadLetterMessageCount)
	require.EqualValues(t, 1, state.ScheduledMessageCount)
	require.Zero(t, state.TransferMessageCount)
	require.Zero(t, state.TransferDeadLetterMessageCount)
	require.EqualValues(t, 5, state.TotalMessageCount)
	require.EqualValues(t, 100, state.SizeInBytes)
	for _, at := range []time.Time{state.CreatedAt, state.UpdatedAt, state.AccessedAt} {
		require.WithinRange(t, at, start, time.Now())
	}

	queue, err = c.GetQueue(t.Context(), "other/nested", nil)
	require.NoError(t, err)
	require.Equal(t, forever, *queue.DefaultMessageTimeToLive)
	require.False(t, *queue.RequiresDuplicateDetection)
	require.Equal(t, "PT10M", *queue.DuplicateDetectionHistoryTimeWindow)
}

func TestAdminClientMissesAQueue(t *testing.T) {
	t.Parallel()
	c := adminClient(t, adminNamespace(t), adminKey)
	queue, err := c.GetQueue(t.Context(), "missing", nil)
	require.NoError(t, err)
	require.Nil(t, queue)
	state, err := c.GetQueueRuntimeProperties(t.Context(), "missing", nil)
	require.NoError(t, err)
	require.Nil(t, state)
}

func TestAdminClientListsQueues(t *testing.T) {
	t.Parallel()
	c := adminClient(t, adminNamespace(t), adminKey)
	for _, size := range []int32{0, 1, 2, 10} {
		var names []string
		for pager := c.NewListQueuesPager(&admin.ListQueuesOptions{MaxPageSize: size}); pager.More(); {
			page, err := pager.NextPage(t.Context())
			require.NoError(t, err)
			for _, q := range page.Queues {
				names = append(names, q.QueueName)
			}
		}
		require.Equal(t, []string{"events", "other/nested"}, names, "page size %d", size)
	}
	page, err := c.NewListQueuesRuntimePropertiesPager(nil).NextPage(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 3, page.QueueRuntimeProperties[0].ActiveMessageCount)
}

func TestAdminClientWithAnotherKey(t *testing.T) {
	t.Parallel()
	server := adminNamespace(t)
	for name, key := range map[string]Key{"value": {adminKey.Name, "b3RoZXI="}, "name": {"other", adminKey.Value}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := adminClient(t, server, key).GetQueue(t.Context(), "events", nil)
			var answer *azcore.ResponseError
			require.ErrorAs(t, err, &answer)
			require.Equal(t, http.StatusUnauthorized, answer.StatusCode)
		})
	}
}

// signature is a shared access signature as the documentation of Service Bus has it.
func signature(key Key, resource string, end time.Time) string {
	resource = url.QueryEscape(resource)
	mac := hmac.New(sha256.New, []byte(key.Value))
	fmt.Fprintf(mac, "%s\n%d", resource, end.Unix())
	return fmt.Sprintf("SharedAccessSignature sr=%s&sig=%s&se=%d&skn=%s",
		resource, url.QueryEscape(base64.StdEncoding.EncodeToString(mac.Sum(nil))), end.Unix(), url.QueryEscape(key.Name))
}

func adminGet(t *testing.T, server *httptest.Server, method, target, authorization string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, server.URL+target, nil)
	require.NoError(t, err)
	if authorization != "" {
		request.Header.Set("Authorization", authorization)
	}
	response, err := server.Client().Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response.StatusCode, string(body)
}

// A scaler of KEDA asks as this does, and reads this much.
func TestScalerReadsTheCounts(t *testing.T) {
	t.Parallel()
	server := adminNamespace(t)
	status, body := adminGet(t, server, http.MethodGet, "/events?api-version=2017-04", signature(adminKey, server.URL+"/events", time.Now().Add(time.Hour)))
	require.Equal(t, http.StatusOK, status)
	var entry struct {
		XMLName xml.Name `xml:"http://www.w3.org/2005/Atom entry"`
		Title   string   `xml:"title"`
		Queue   struct {
			MessageCount int `xml:"MessageCount"`
			CountDetails struct {
				Active int `xml:"http://schemas.microsoft.com/netservices/2011/06/servicebus ActiveMessageCount"`
			} `xml:"CountDetails"`
		} `xml:"content>QueueDescription"`
	}
	require.NoError(t, xml.Unmarshal([]byte(body), &entry))
	require.Equal(t, "events", entry.Title)
	require.Equal(t, 5, entry.Queue.MessageCount)
	require.Equal(t, 3, entry.Queue.CountDetails.Active)
}

func TestAdminAuthorization(t *testing.T) {
	t.Parallel()
	server := adminNamespace(t)
	later := time.Now().Add(time.Hour)
	good := signature(adminKey, server.URL+"/events", later)
	for name, test := range map[string]struct {
		authorization string
		want          int
	}{
		"queue":             {good, 200},
		"namespace":         {signature(adminKey, server.URL, later), 200},
		"namespace, slash":  {signature(adminKey, "sb://ns.example/", later), 200},
		"host only":         {signature(adminKey, "ns.example", later), 200},
		"other case":        {signature(adminKey, "sb://NS.example/Events", later), 200},
		"query":             {signature(adminKey, server.URL+"/events?api-version=2024-05", later), 200},
		"none":              {"", 401},
		"bearer":            {"Bearer x", 401},
		"empty":             {"SharedAccessSignature ", 401},
		"other queue":       {signature(adminKey, server.URL+"/other", later), 401},
		"prefix of a name":  {signature(adminKey, server.URL+"/event", later), 401},
		"part of the queue": {signature(adminKey, server.URL+"/events/x", later), 401},
		"over":              {signature(adminKey, server.URL+"/events", time.Now().Add(-time.Second)), 401},
		"other key":         {signature(Key{adminKey.Name, "other"}, server.URL+"/events", later), 401},
		"other name":        {signature(Key{"other", adminKey.Value}, server.URL+"/events", later), 401},
		"longer":            {strings.Replace(good, "&se=", "&se=9", 1), 401},
		"no number":         {strings.Replace(good, "&se=", "&se=x", 1), 401},
		"unreadable":        {strings.Replace(good, "&sig=", "&sig=%zz", 1), 401},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			status, body := adminGet(t, server, http.MethodGet, "/events", test.authorization)
			require.Equal(t, test.want, status, body)
			if status != http.StatusOK {
				require.Contains(t, body, "<Error><Code>401</Code><Detail>")
				require.NotContains(t, body, adminKey.Value)
			}
		})
	}
}

func TestAdminOnlyReads(t *testing.T) {
	t.Parallel()
	server := adminNamespace(t)
	all := signature(adminKey, server.URL, time.Now().Add(time.Hour))
	for _, method := range []string{http.MethodPut, http.MethodPost, http.MethodDelete} {
		status, _ := adminGet(t, server, method, "/events", all)
		require.Equal(t, http.StatusMethodNotAllowed, status)
	}
	for _, query := range []string{"$top=x", "$skip=-1"} {
		status, _ := adminGet(t, server, http.MethodGet, "/$Resources/Queues?"+query, all)
		require.Equal(t, http.StatusBadRequest, status)
	}
}

func TestISO8601(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		0: "PT0S", 30 * time.Second: "PT30S", time.Minute: "PT1M", 1500 * time.Millisecond: "PT1.5S", 14 * 24 * time.Hour: "P14D",
		25*time.Hour + 61*time.Second: "P1DT1H1M1S",
	} {
		require.Equal(t, want, iso8601(d))
	}
}
