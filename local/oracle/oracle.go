package oracle

import (
	"os"
	"sort"
	"time"

	"github.com/goccy/go-yaml"
)

// Catalog is as much of the chess catalog as the oracle looks at.
type Catalog struct {
	XP struct {
		Table    []int64
		Generate *struct{ Levels, First, Percent int64 }
	}
	Bosses map[string]struct {
		XP    int64
		Items map[string]int64
	}
	Rewards struct {
		Levels map[int]struct{ Items map[string]int64 }
	}
	Boards map[string]struct{ Windows []string }
}

// ReadCatalog reads a catalog file.
func ReadCatalog(path string) (Catalog, error) {
	var c Catalog
	text, err := os.ReadFile(path)
	if err != nil {
		return c, err
	}
	return c, yaml.Unmarshal(text, &c)
}

// Level is the level that so much XP reaches.
func (c Catalog) Level(xp int64) int {
	reach, step, level := int64(0), int64(0), 1
	if g := c.XP.Generate; g != nil {
		step = g.First
		for l := int64(2); l <= g.Levels; l++ {
			if reach += step; xp < reach {
				return level
			}
			level++
			step = max(step*g.Percent/100, 1)
		}
		return level
	}
	for i, need := range c.XP.Table {
		if xp >= need {
			level = i + 1
		}
	}
	return level
}

// Outcome is what events come to.
type Outcome struct {
	XP    map[string]int64            // by player
	Items map[string]map[string]int64 // by player and item

	boards map[board]map[string]entry
}

type board struct{ name, cadence string }

type entry struct {
	score, at int64
	event     string
}

// Compute plays the events in the order given, each once. Days and weeks hold only what happened in those that now lies in:
// the system did not exist before. The season is the year, in which all of it happened.
func (c Catalog) Compute(events []Event, now time.Time) Outcome {
	n := Outcome{map[string]int64{}, map[string]map[string]int64{}, map[board]map[string]entry{}}
	give := func(player, item string, quantity int64) {
		if n.Items[player] == nil {
			n.Items[player] = map[string]int64{}
		}
		n.Items[player][item] += quantity
	}
	year, week := now.ISOWeek()
	for _, e := range events {
		at := e.at()
		n.XP[e.PlayerID] += 0
		switch e.Type {
		case "xp_gained":
			n.XP[e.PlayerID] += int64(e.Data["amount"].(int))
		case "boss_killed":
			boss := c.Bosses[e.Data["boss"].(string)]
			n.XP[e.PlayerID] += boss.XP
			for item, quantity := range boss.Items {
				give(e.PlayerID, item, quantity)
			}
		case "item_acquired":
			give(e.PlayerID, e.Data["item"].(string), 1)
		case "score_submitted":
			boards := []string{e.Data["board"].(string)}
			if boards[0] == "rating" {
				boards = append(boards, "rating-best")
			}
			for _, name := range boards {
				for _, cadence := range c.Boards[name].Windows {
					y, w := at.ISOWeek()
					if cadence == "daily" && at.Format(time.DateOnly) != now.Format(time.DateOnly) ||
						cadence == "weekly" && (y != year || w != week) {
						continue
					}
					key := board{name, cadence}
					if n.boards[key] == nil {
						n.boards[key] = map[string]entry{}
					}
					old, known := n.boards[key][e.PlayerID]
					n.boards[key][e.PlayerID] = merge(name, old, known, entry{int64(e.Data["score"].(int)), at.UnixMilli(), e.ID})
				}
			}
		}
	}
	for player, xp := range n.XP {
		for level, reward := range c.Rewards.Levels {
			for item, quantity := range reward.Items {
				if level <= c.Level(xp) {
					give(player, item, quantity)
				}
			}
		}
	}
	return n
}

func merge(board string, old entry, known bool, next entry) entry {
	switch {
	case !known:
		return next
	case board == "points":
		return entry{old.score + next.score, max(old.at, next.at), ""}
	case board == "rating":
		if next.at > old.at || next.at == old.at && next.event > old.event {
			return next
		}
	case next.score > old.score || next.score == old.score && next.at < old.at:
		return next
	}
	return old
}

// Entry is a place on a board, as the API gives it.
type Entry struct {
	Rank       int64     `json:"rank"`
	TiedRank   int64     `json:"tied_rank"`
	PlayerID   string    `json:"player_id"`
	Score      int64     `json:"score"`
	AchievedAt time.Time `json:"achieved_at"`
}

// Order is the full ranking of a board in the window of a cadence.
func (n Outcome) Order(name, cadence string) []Entry {
	var rows []Entry
	for player, e := range n.boards[board{name, cadence}] {
		rows = append(rows, Entry{PlayerID: player, Score: e.score, AchievedAt: time.UnixMilli(e.at).UTC()})
	}
	return InOrder(rows)
}

// InOrder sorts the rows of a descending board, by score, who got there first and player, and numbers them.
func InOrder(rows []Entry) []Entry {
	sort.Slice(rows, func(i, j int) bool {
		a, b := rows[i], rows[j]
		if a.Score != b.Score {
			return a.Score > b.Score
		}
		if !a.AchievedAt.Equal(b.AchievedAt) {
			return a.AchievedAt.Before(b.AchievedAt)
		}
		return a.PlayerID < b.PlayerID
	})
	for i := range rows {
		rows[i].Rank, rows[i].TiedRank = int64(i+1), int64(i+1)
		if i > 0 && rows[i].Score == rows[i-1].Score {
			rows[i].TiedRank = rows[i-1].TiedRank
		}
	}
	return rows
}
