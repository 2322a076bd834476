package wire_test

import (
	"bufio"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"liveops/local/wire"
)

// shouter is a server that greets, and answers every line in capitals.
func shouter(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = conn.Write([]byte("hello\n"))
				for lines := bufio.NewScanner(conn); lines.Scan(); {
					_, _ = conn.Write([]byte(strings.ToUpper(lines.Text()) + "\n"))
				}
			}()
		}
	}()
	return "test://" + listener.Addr().String() + "/path"
}

type client struct {
	net.Conn
	*bufio.Reader
}

func connect(t *testing.T, rawURL string) client {
	t.Helper()
	u, err := url.Parse(rawURL)
	require.NoError(t, err)
	require.Equal(t, "/path", u.Path)
	conn, err := net.Dial("tcp", u.Host)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return client{conn, bufio.NewReader(conn)}
}

func (c client) ask(line string) (string, error) {
	if _, err := c.Write([]byte(line + "\n")); err != nil {
		return "", err
	}
	answer, err := c.ReadString('\n')
	return strings.TrimSpace(answer), err
}

func lay(t *testing.T) (*wire.Wire, client) {
	t.Helper()
	w, err := wire.New(shouter(t))
	require.NoError(t, err)
	t.Cleanup(w.Close)
	c := connect(t, w.URL)
	greeting, err := c.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "hello\n", greeting)
	return w, c
}

func TestCut(t *testing.T) {
	t.Parallel()
	w, c := lay(t)
	answer, err := c.ask("one")
	require.NoError(t, err)
	require.Equal(t, "ONE", answer)

	w.Cut()
	_, err = c.ask("two")
	require.Error(t, err)
	_, err = connect(t, w.URL).ReadString('\n')
	require.Error(t, err, "a new connection is cut too")

	w.Mend()
	_, err = c.ask("three")
	require.Error(t, err, "what was cut stays cut")
	greeting, err := connect(t, w.URL).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "hello\n", greeting)
}

func TestWatch(t *testing.T) {
	t.Parallel()
	w, c := lay(t)
	var mu sync.Mutex
	var seen []string
	w.Watch(func(request []byte, answered bool) bool {
		mu.Lock()
		defer mu.Unlock()
		line := strings.TrimSpace(string(request))
		if answered {
			line += "!"
		}
		seen = append(seen, line)
		return line != "three" && line != "four!"
	})
	for _, line := range []string{"one", "two"} {
		_, err := c.ask(line)
		require.NoError(t, err)
	}
	_, err := c.ask("three")
	require.Error(t, err)
	other := connect(t, w.URL)
	_, err = other.ReadString('\n')
	require.NoError(t, err)
	_, err = other.ask("four")
	require.Error(t, err)
	mu.Lock()
	require.Equal(t, []string{"one", "one!", "two", "two!", "three", "four", "four!"}, seen, "greetings are no answers")
	mu.Unlock()
	w.Watch(nil)
	other = connect(t, w.URL)
	_, err = other.ReadString('\n')
	require.NoError(t, err)
	answer, err := other.ask("three")
	require.NoError(t, err)
	require.Equal(t, "THREE", answer)
}
