package season

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"

	"liveops/core/merkle"
)

// Row is a standing as an archive holds and exports it. Its leaf in the tree commits to player, event and metadata through the
// salt. Where the salt was destroyed the commitment is kept in its place: the row still proves its ranks, score and time, and
// no longer whose they are.
type Row struct {
	Standing
	Salt       string // 22 characters of base64url; empty where the commitment is given
	Commitment string // 43 characters; empty where the salt is given
}

// commitment is base64url(SHA-256(salt, player, event id, metadata)) with tabs between; only metadata could hold one.
func (r Row) commitment() string {
	if r.Salt == "" {
		return r.Commitment
	}
	text := make([]byte, 0, 256)
	text = append(append(text, r.Salt...), '\t')
	text = append(append(text, r.Player...), '\t')
	text = append(append(text, r.EventID...), '\t')
	sum := sha256.Sum256(append(text, r.Metadata...))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// leaf is the hash of the canonical row: rank, tied rank, commitment, score and achieved at in ms, tabs between, a line feed
// behind.
func (r Row) leaf() merkle.Hash {
	line := make([]byte, 0, 128)
	line = append(strconv.AppendInt(line, r.Rank, 10), '\t')
	line = append(strconv.AppendInt(line, r.TiedRank, 10), '\t')
	line = append(append(line, r.commitment()...), '\t')
	line = append(strconv.AppendInt(line, r.Score, 10), '\t')
	return merkle.Leaf(append(strconv.AppendInt(line, r.AchievedAt.UnixMilli(), 10), '\n'))
}

// check says what is wrong with a row by itself.
func (r Row) check() error {
	if (r.Salt == "") == (r.Commitment == "") {
		return errors.New("a row has either a salt or a commitment")
	}
	return nil
}

// ErrRow says that a row is not in the archive that the statement is about, or not as it is given.
var ErrRow = errors.New("the row is not in the archive")

// VerifyRow checks that a row is in the archive a genuine statement is about: that the path, from below, leads from it to the
// root. The error is ErrRow.
func VerifyRow(s Statement, r Row, path []merkle.Hash) error {
	if err := r.check(); err != nil {
		return fmt.Errorf("%w: %w", ErrRow, err)
	}
	if !merkle.Verify(s.Root, s.Entries, r.Rank-1, r.leaf(), path) {
		return fmt.Errorf("%w: rank %d of window %s of board %s", ErrRow, r.Rank, s.Window, s.Board)
	}
	return nil
}

// RowError is the first row of an exported archive that cannot be right.
type RowError struct {
	Row     int64 // where it stands, from 1
	Problem string
}

func (e *RowError) Error() string { return fmt.Sprintf("row %d: %s", e.Row, e.Problem) }

// ErrRoot says that the rows of an exported archive are not those that were archived, though each might be right.
var ErrRoot = errors.New("the rows are not those of the archive")

// Verifier checks the rows of an exported archive one after the other, and holds none of them.
type Verifier struct {
	statement Statement
	tree      merkle.Tree
	last      Row
	falling   int // 1: scores fall with rank, −1: they rise, 0: all are the same so far
}

// NewVerifier makes a Verifier of the archive that a genuine statement is about.
func NewVerifier(s Statement) *Verifier { return &Verifier{statement: s} }

// Row takes the next row, in order of rank. One that cannot follow on those before is a RowError.
func (v *Verifier) Row(r Row) error {
	at := v.tree.Size() + 1
	if err := r.check(); err != nil {
		return &RowError{at, err.Error()}
	}
	if problem := v.misplaced(r, at); problem != "" {
		return &RowError{at, problem}
	}
	v.tree.Add(r.leaf())
	v.last = r
	return nil
}

// misplaced says why a row cannot be the next one.
func (v *Verifier) misplaced(r Row, at int64) string {
	switch {
	case at > v.statement.Entries:
		return fmt.Sprintf("the archive has only %d", v.statement.Entries)
	case r.Rank != at:
		return fmt.Sprintf("it has rank %d", r.Rank)
	case at > 1 && r.Score == v.last.Score:
		return v.mistied(r)
	case r.TiedRank != r.Rank:
		return fmt.Sprintf("tied rank %d, though nobody before it has the score %d", r.TiedRank, r.Score)
	case at == 1:
		return ""
	}
	falls := 1
	if r.Score > v.last.Score {
		falls = -1
	}
	if v.falling == 0 {
		v.falling = falls
	}
	if falls != v.falling {
		return fmt.Sprintf("score %d is out of order after %d", r.Score, v.last.Score)
	}
	return ""
}

// mistied says what is wrong with a row that has the score of the one before.
func (v *Verifier) mistied(r Row) string {
	switch {
	case r.TiedRank != v.last.TiedRank:
		return fmt.Sprintf("tied rank %d, though the row before has the same score and tied rank %d", r.TiedRank, v.last.TiedRank)
	case r.AchievedAt.Before(v.last.AchievedAt):
		return "it has the score of the row before and reached it earlier"
	case r.AchievedAt.After(v.last.AchievedAt) || r.Salt == "" || v.last.Salt == "":
		return "" // ids that were taken away order nothing
	case r.Player == v.last.Player:
		return fmt.Sprintf("player %s has two", r.Player)
	case r.Player < v.last.Player:
		return fmt.Sprintf("player %s is out of order after player %s, who reached the same score at the same time", r.Player, v.last.Player)
	}
	return ""
}

// End says, after the last row, whether they are the archive's: all of them, and unchanged. Otherwise it is ErrRoot.
func (v *Verifier) End() error {
	if n := v.tree.Size(); n != v.statement.Entries {
		return fmt.Errorf("%w: %d of %d", ErrRoot, n, v.statement.Entries)
	}
	if v.tree.Root() != v.statement.Root {
		return ErrRoot
	}
	return nil
}
