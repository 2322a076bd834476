package fairness

import (
	"context"
	"maps"
	"sync"
)

// Memory keeps in this process what a Ladder knows. It is safe for concurrent use.
type Memory struct {
	mu      sync.Mutex
	states  map[string][]byte
	running map[Past]Histogram
	ended   map[Past]Histogram
}

// NewMemory gives one that knows nobody.
func NewMemory() *Memory {
	return &Memory{states: map[string][]byte{}, running: map[Past]Histogram{}, ended: map[Past]Histogram{}}
}

// Load implements States.
func (m *Memory) Load(_ context.Context, players []string) ([][]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	states := make([][]byte, len(players))
	for i, player := range players {
		states[i] = m.states[player]
	}
	return states, nil
}

// Save implements States.
func (m *Memory) Save(_ context.Context, changes []Change) ([]bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	saved := make([]bool, len(changes))
	for i, c := range changes {
		if saved[i] = sameMark(m.states[c.Player], c.Before); saved[i] {
			m.states[c.Player] = c.After
		}
	}
	return saved, nil
}

// Count implements Baselines.
func (m *Memory) Count(_ context.Context, votes map[Past]Histogram) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for past, histogram := range votes {
		if m.running[past] == nil {
			m.running[past] = Histogram{}
		}
		m.running[past].add(histogram)
	}
	return nil
}

// Ended implements Baselines.
func (m *Memory) Ended(_ context.Context, wanted []Past) (map[Past]Histogram, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	ended := make(map[Past]Histogram, len(wanted))
	for _, past := range wanted {
		if _, known := m.ended[past]; !known {
			m.ended[past] = maps.Clone(m.running[past])
			delete(m.running, past)
		}
		ended[past] = m.ended[past]
	}
	return ended, nil
}
