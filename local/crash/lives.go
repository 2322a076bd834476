package main

import (
	"net/http"
	"os"
	"strconv"
	"sync"
)

// lives knows the children that live, by role and pod. A child announces itself with a request that lasts as long as it does: when
// the connection breaks, not one of its threads is running any more.
type lives struct {
	mu      sync.Mutex
	current map[string]*life
}

type life struct {
	process *os.Process
	over    chan struct{}
}

// ServeHTTP takes the announcement of a child.
func (l *lives) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	who := r.URL.Query().Get("who")
	pid, err := strconv.Atoi(r.URL.Query().Get("pid"))
	if err != nil {
		http.Error(w, "pid: "+err.Error(), http.StatusBadRequest)
		return
	}
	process, err := os.FindProcess(pid) // it lives and waits for the answer, so this is the one that is meant
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	defer process.Release() //nolint:errcheck // it is no child of ours that would have to be waited for
	born := &life{process: process, over: make(chan struct{})}
	defer close(born.over)
	l.mu.Lock()
	if l.current == nil {
		l.current = map[string]*life{}
	}
	l.current[who] = born
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.current[who] == born {
			delete(l.current, who)
		}
	}()
	if http.NewResponseController(w).Flush() == nil {
		<-r.Context().Done()
	}
}

// kill ends a child by SIGKILL, and returns when it is gone. It says whether there was one.
func (l *lives) kill(who string) bool {
	l.mu.Lock()
	victim := l.current[who]
	l.mu.Unlock()
	if victim == nil || victim.process.Kill() != nil {
		return false
	}
	<-victim.over
	return true
}
