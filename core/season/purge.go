package season

import (
	"context"
	"fmt"
	"strings"

	"liveops/core/merkle"
	"liveops/core/store"
)

// purge removes what an archive holds beyond the hall of fame.
func (w *Windows) purge(ctx context.Context, l *lease) (func(tx *store.Tx) error, error) {
	h, err := w.keep(ctx, l)
	if err != nil {
		return nil, fmt.Errorf("keep the hall of fame: %w", err)
	}
	if h.Kept == h.Entries {
		return nil, nil
	}
	if err := w.clear(ctx, l, h.Kept); err != nil {
		return nil, fmt.Errorf("purge entries: %w", err)
	}
	return nil, nil
}

// keep decides, once, how many places stay. From its transaction on no reader sees the others, and the places that stay
// carry their paths with them, because the rows and the roots which those are made of go.
func (w *Windows) keep(ctx context.Context, l *lease) (Header, error) {
	var h Header
	err := l.tx(ctx, func(tx *store.Tx) error {
		var err error
		if h, err = header(ctx, tx.Queries, l.Board, l.ID); err != nil || h.Kept < h.Entries {
			return err
		}
		h.Kept = min(h.Entries, int64(w.Catalog().Boards[l.Board].HallOfFame))
		if h.Kept == h.Entries {
			return nil
		}
		if err := h.keepPaths(ctx, tx); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `UPDATE archive SET kept = ? WHERE board = ? AND window_id = ?`, h.Kept, h.Board, h.ID)
		return err
	})
	return h, err
}

func (h Header) keepPaths(ctx context.Context, tx *store.Tx) error {
	var b branch
	for i := range h.Kept {
		if i%blockSize == 0 {
			var err error
			if b, err = h.branch(ctx, tx.Queries, i); err != nil {
				return err
			}
		}
		_, err := tx.Exec(ctx, `UPDATE archive_entry SET path = ? WHERE board = ? AND window_id = ? AND position = ?`,
			pathText(b.path(i)), h.Board, h.ID, i+1)
		if err != nil {
			return err
		}
	}
	return nil
}

// branch is what the paths of the rows of one block are made of.
type branch struct {
	leaves []merkle.Hash
	above  []merkle.Hash // from the root of the block on
}

// branch reads the block that the row with an index, from 0, is in, and the roots of all.
func (h Header) branch(ctx context.Context, q store.Queries, index int64) (branch, error) {
	var b branch
	block := index / blockSize
	rows, err := readRows(ctx, q, `e.position > ? AND e.position <= ? ORDER BY e.position`, h.Board, h.ID, block*blockSize, (block+1)*blockSize)
	if err != nil {
		return b, err
	}
	for _, r := range rows {
		b.leaves = append(b.leaves, r.leaf())
	}
	var roots []merkle.Hash
	query := `SELECT root FROM archive_block WHERE board = ? AND window_id = ? ORDER BY block`
	err = q.Each(ctx, query, []any{h.Board, h.ID}, func(scan func(...any) error) error {
		var text []byte
		if err := scan(&text); err != nil {
			return err
		}
		var root merkle.Hash
		err := root.UnmarshalText(text)
		roots = append(roots, root)
		return err
	})
	if err == nil && (int64(len(b.leaves)) != min(blockSize, h.Entries-block*blockSize) || int64(len(roots)) != (h.Entries+blockSize-1)/blockSize) {
		err = fmt.Errorf("the archive of window %s of board %s is not whole", h.ID, h.Board)
	}
	if err != nil {
		return b, err
	}
	b.above = merkle.Path(roots, int(block))
	return b, nil
}

// path leads from the row with an index, which is in the block, to the root of the archive.
func (b branch) path(index int64) []merkle.Hash {
	return append(merkle.Path(b.leaves, int(index%blockSize)), b.above...)
}

// pathText is a path as it is kept: its hashes with spaces between.
func pathText(path []merkle.Hash) string {
	texts := make([]string, len(path))
	for i, h := range path {
		texts[i] = h.String()
	}
	return strings.Join(texts, " ")
}

func readPath(text string) ([]merkle.Hash, error) {
	var path []merkle.Hash
	for _, one := range strings.Fields(text) {
		var h merkle.Hash
		if err := h.UnmarshalText([]byte(one)); err != nil {
			return nil, err
		}
		path = append(path, h)
	}
	return path, nil
}
