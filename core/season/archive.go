package season

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/base64"
	"fmt"
	"sync"
	"time"

	"github.com/go-json-experiment/json"

	"liveops/core/catalog"
	"liveops/core/merkle"
	"liveops/core/store"
)

// Standing is one player's final place. Ranks are unique and count from 1; TiedRank is the rank of the first player with
// the same score. AchievedAt has milliseconds.
type Standing struct {
	Rank       int64
	TiedRank   int64
	Player     string
	Score      int64
	AchievedAt time.Time
	EventID    string
	Metadata   string // what the entry keeps of that event, as one line of JSON; often empty
}

// Standings is the final order of a window.
type Standings interface {
	// EachStanding calls each for every ranked entry of a frozen window, read through q, in order of Rank from 1 without a gap.
	// It gives the same standings every time, may hold only a part of them in memory, and returns the error of each as it
	// is. It calls each from the goroutine it was called in. While it reads on, what each was given is written to the database
	// in transactions of others. mismatches is how many of them stand otherwise where ranks were served from, nil where that was
	// not compared.
	EachStanding(ctx context.Context, q store.Queries, board, window string, each func(Standing) error) (mismatches *int64, err error)

	// Forget removes some of the entries of an archived window, the last time also what ranks of it were served from, and says
	// whether anything may be left. What is gone already is no error.
	Forget(ctx context.Context, board, window string) (left bool, err error)
}

// Header is what the archive says about a window as a whole. It is kept for ever.
type Header struct {
	Window
	Entries        int64
	Kept           int64  // how many of the first places the archive still has: Entries until it is purged
	TopPlayer      string // the winner; empty without entries
	TopScore       int64
	ClosedAt       time.Time // when the archive was made
	CatalogVersion int
	Tiers          []catalog.Tier // what places bring, as the catalog had it then
	Mismatches     *int64         // entries that were served otherwise than they are archived; nil: not compared
	Root           merkle.Hash    // over the rows in order of rank
	Sequence       int64          // of the board's archives, from 1
	Previous       string         // SealDigest of the board's archive before; empty for the first
	Seal           string         // the signed Statement
}

// Statement is what the seal says.
func (h Header) Statement() Statement {
	return Statement{
		Board: h.Board, Window: h.ID, Cadence: h.Cadence, StartsAt: h.Starts, EndsAt: h.Ends, Entries: h.Entries, Root: h.Root,
		Sequence: h.Sequence, Previous: h.Previous, ClosedAt: h.ClosedAt, CatalogVersion: h.CatalogVersion,
	}
}

const (
	// blockSize is how many rows share a block, whose root is kept so that a proof reads one block and not the window.
	blockSize = 1024
	saltSize  = 16 // bytes
)

func (w *Windows) chunk() int64 {
	if w.Chunk <= 0 {
		return 1000
	}
	return int64(w.Chunk)
}

// archive writes the entries of a frozen window, chunk by chunk, and leaves the header for the transaction that changes
// the state. What an earlier try left behind is removed first; it is not visible, because readers start from the header.
func (w *Windows) archive(ctx context.Context, l *lease) (func(tx *store.Tx) error, error) {
	if err := w.clear(ctx, l, 0); err != nil {
		return nil, fmt.Errorf("clear what an earlier try left: %w", err)
	}
	h, err := w.copy(ctx, l)
	if err != nil {
		return nil, fmt.Errorf("archive entries: %w", err)
	}
	game := w.Catalog()
	h.CatalogVersion, h.Tiers = game.Version, game.Boards[l.Board].Rewards[l.Cadence]
	return func(tx *store.Tx) error { return w.seal(ctx, tx, h) }, nil
}

// chunk is rows of the tables archive_entry and archive_block that are written in one transaction.
type chunk struct{ entries, blocks [][]any }

// copy writes the standings of a window into the archive and gives the header as far as they decide it. While one chunk is
// written the next is read and hashed, so there are never more than two, and the page of whoever reads, in memory.
func (w *Windows) copy(ctx context.Context, l *lease) (Header, error) {
	ctx, stop := context.WithCancel(ctx)
	chunks, written := make(chan chunk), make(chan struct{})
	var failed error
	go func() {
		defer close(written)
		for c := range chunks {
			if failed == nil {
				failed = l.tx(ctx, func(tx *store.Tx) error { return c.insert(ctx, tx) })
			}
			if failed != nil {
				stop() // the reader too
			}
		}
	}()
	finish := sync.OnceFunc(func() { close(chunks); <-written })
	defer finish()
	defer stop()

	p := page{header: Header{Window: l.Window}, size: int(w.chunk())}
	mismatches, err := w.Standings.EachStanding(ctx, w.DB.Queries, l.Board, l.ID, func(s Standing) error {
		if err := p.add(s); err != nil {
			return err
		}
		if p.full() {
			chunks <- p.take()
		}
		return nil
	})
	if err == nil {
		chunks <- p.end()
	}
	finish()
	if failed != nil {
		return Header{}, failed
	}
	p.header.Mismatches = mismatches
	return p.header, err
}

func (c chunk) insert(ctx context.Context, tx *store.Tx) error {
	if err := entryTable().Insert(ctx, tx.Queries, c.entries); err != nil {
		return err
	}
	blocks := store.Table{Name: "archive_block", Columns: []string{"board", "window_id", "block", "root"}}
	return blocks.Insert(ctx, tx.Queries, c.blocks)
}

func entryTable() store.Table {
	return store.Table{
		Name: "archive_entry",
		Columns: []string{
			"board", "window_id", "position", "tied_position", "player_id", "score", "achieved_at", "event_id", "metadata", "salt",
		},
	}
}

// page turns standings into chunks and grows the tree over them.
type page struct {
	header Header
	size   int // entries of a chunk
	chunk  chunk
	salts  []byte // random ones that are not used yet
	block  merkle.Tree
	tree   merkle.Tree // over the roots of blocks
}

func (p *page) add(s Standing) error {
	h := &p.header
	h.Entries++
	if s.Rank != h.Entries {
		return fmt.Errorf("standings are not in order: rank %d at place %d", s.Rank, h.Entries)
	}
	if s.Rank == 1 {
		h.TopPlayer, h.TopScore = s.Player, s.Score
	}
	r := Row{Standing: s, Salt: p.salt()}
	p.chunk.entries = append(p.chunk.entries, []any{
		h.Board, h.ID, r.Rank, r.TiedRank, r.Player, r.Score, r.AchievedAt.UnixMilli(), r.EventID, r.Metadata, r.Salt,
	})
	p.block.Add(r.leaf())
	if p.block.Size() == blockSize {
		p.endBlock()
	}
	return nil
}

func (p *page) salt() string {
	if len(p.salts) == 0 {
		p.salts = make([]byte, 1000*saltSize)
		_, _ = rand.Read(p.salts) // it never fails
	}
	salt := p.salts[:saltSize]
	p.salts = p.salts[saltSize:]
	return base64.RawURLEncoding.EncodeToString(salt)
}

func (p *page) endBlock() {
	root := p.block.Root()
	p.chunk.blocks = append(p.chunk.blocks, []any{p.header.Board, p.header.ID, p.tree.Size(), root.String()})
	p.tree.Add(root)
	p.block.Reset()
}

func (p *page) full() bool { return len(p.chunk.entries) >= p.size }

func (p *page) take() chunk {
	c := p.chunk
	p.chunk = chunk{entries: make([][]any, 0, p.size)}
	return c
}

// end gives what is left and completes the header.
func (p *page) end() chunk {
	if p.block.Size() > 0 {
		p.endBlock()
	}
	p.header.Kept, p.header.Root = p.header.Entries, p.tree.Root()
	return p.take()
}

// seal appends an archive to the chain of its board and writes its header. The row of the chain is locked until the archive is
// committed, so that of two archives of one board one is the other's previous.
func (w *Windows) seal(ctx context.Context, tx *store.Tx, h Header) error {
	chain := store.Table{Name: "archive_chain", Columns: []string{"board", "sequence", "digest"}, Key: []string{"board"}}
	if err := chain.InsertMissing(ctx, tx.Queries, [][]any{{h.Board, 0, ""}}); err != nil {
		return err
	}
	query := `SELECT sequence, digest FROM archive_chain WHERE board = ?` + tx.Dialect.ForUpdate()
	if err := tx.Row(ctx, query, []any{h.Board}, &h.Sequence, &h.Previous); err != nil {
		return err
	}
	h.Sequence++
	h.ClosedAt = w.Now().UTC().Truncate(time.Millisecond)
	var err error
	if h.Seal, err = w.Sealer.Seal(h.Statement()); err != nil {
		return err
	}
	tiers, err := json.Marshal(h.Tiers, json.Deterministic(true))
	if err != nil {
		return err
	}
	header := store.Table{Name: "archive", Columns: []string{
		"board", "window_id", "cadence", "starts_at", "ends_at", "entries", "kept", "top_player", "top_score", "closed_at", "catalog_version",
		"tiers", "mismatches", "root", "sequence", "previous", "seal",
	}}
	err = header.Insert(ctx, tx.Queries, [][]any{{
		h.Board, h.ID, h.Cadence, h.Starts.UnixMilli(), h.Ends.UnixMilli(), h.Entries, h.Kept, h.TopPlayer, h.TopScore, h.ClosedAt.UnixMilli(),
		h.CatalogVersion, string(tiers), h.Mismatches, h.Root.String(), h.Sequence, h.Previous, h.Seal,
	}})
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `UPDATE archive_chain SET sequence = ?, digest = ? WHERE board = ?`, h.Sequence, SealDigest(h.Seal), h.Board)
	return err
}

// clear removes the entries of a window from the last one down to a rank, which stays, a chunk at a time, and then every root of
// a block.
func (w *Windows) clear(ctx context.Context, l *lease, kept int64) error {
	for left := true; left; {
		err := l.tx(ctx, func(tx *store.Tx) error {
			var last sql.NullInt64
			err := tx.Row(ctx, `SELECT MAX(position) FROM archive_entry WHERE board = ? AND window_id = ?`, []any{l.Board, l.ID}, &last)
			if left = last.Int64 > kept; err != nil || !left {
				return err
			}
			_, err = tx.Exec(ctx, `DELETE FROM archive_entry WHERE board = ? AND window_id = ? AND position > ?`,
				l.Board, l.ID, max(kept, last.Int64-w.chunk()))
			return err
		})
		if err != nil {
			return err
		}
	}
	return l.tx(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec(ctx, `DELETE FROM archive_block WHERE board = ? AND window_id = ?`, l.Board, l.ID)
		return err
	})
}
