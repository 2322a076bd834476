package season

import (
	"bufio"
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"liveops/core/merkle"
)

// instants is how exports write instants, which are UTC.
const instants = "2006-01-02T15:04:05.000Z07:00"

// exportedRow is a row as it leaves the system.
type exportedRow struct {
	Rank       int64          `json:"rank"`
	TiedRank   int64          `json:"tied_rank"`
	PlayerID   string         `json:"player_id"`
	Score      int64          `json:"score"`
	AchievedAt string         `json:"achieved_at"`
	EventID    string         `json:"event_id,omitzero"`
	Metadata   jsontext.Value `json:"metadata,omitzero"`
	Salt       string         `json:"salt,omitzero"`
	Commitment string         `json:"commitment,omitzero"`
}

// exportedProof is the file that proves one row. An exported archive is a line with its seal alone, and then a line a row.
type exportedProof struct {
	Seal string        `json:"seal"`
	Row  *exportedRow  `json:"row,omitzero"`
	Path []merkle.Hash `json:"path,omitzero"`
}

func exported(r Row) exportedRow {
	row := exportedRow{
		Rank: r.Rank, TiedRank: r.TiedRank, PlayerID: r.Player, Score: r.Score, AchievedAt: r.AchievedAt.Format(instants), EventID: r.EventID,
		Salt: r.Salt, Commitment: r.Commitment,
	}
	if r.Metadata != "" {
		row.Metadata = jsontext.Value(r.Metadata)
	}
	return row
}

func (r exportedRow) row() (Row, error) {
	achieved, err := time.Parse(instants, r.AchievedAt)
	if err == nil && achieved.Format(instants) != r.AchievedAt { // a comma is read as a point
		err = fmt.Errorf("achieved_at is %q, which an export writes otherwise", r.AchievedAt)
	}
	return Row{
		Standing: Standing{r.Rank, r.TiedRank, r.PlayerID, r.Score, achieved.UTC(), r.EventID, string(r.Metadata)},
		Salt:     r.Salt, Commitment: r.Commitment,
	}, err
}

// Encode is the file that proves a row to VerifyFile, JSON.
func (p Proof) Encode() ([]byte, error) {
	row := exported(p.Row)
	return json.Marshal(exportedProof{p.Seal, &row, p.Path})
}

// Export writes a whole archive as VerifyFile reads it: NDJSON, the seal first. It holds a page of rows at a time. Errors are those of
// EachRow, and of the writer.
func (w *Windows) Export(ctx context.Context, h Header, to io.Writer) error {
	out := bufio.NewWriterSize(to, 64<<10)
	line := func(v any) error {
		if err := json.MarshalWrite(out, v); err != nil {
			return err
		}
		return out.WriteByte('\n')
	}
	if err := line(exportedProof{Seal: h.Seal}); err != nil {
		return err
	}
	if err := w.EachRow(ctx, h.Board, h.ID, func(r Row) error { return line(exported(r)) }); err != nil {
		return err
	}
	return out.Flush()
}

// ExportCSV writes a whole archive as a table for people. It is otherwise as Export.
func (w *Windows) ExportCSV(ctx context.Context, h Header, to io.Writer) error {
	out := csv.NewWriter(to)
	if err := out.Write([]string{"rank", "tied_rank", "player_id", "score", "achieved_at", "event_id", "metadata"}); err != nil {
		return err
	}
	err := w.EachRow(ctx, h.Board, h.ID, func(r Row) error {
		return out.Write([]string{
			strconv.FormatInt(r.Rank, 10), strconv.FormatInt(r.TiedRank, 10), r.Player, strconv.FormatInt(r.Score, 10),
			r.AchievedAt.Format(instants), r.EventID, r.Metadata,
		})
	})
	out.Flush()
	return errors.Join(err, out.Error())
}

// maxLine is the most bytes a line of an exported file may have: several times what any has.
const maxLine = 64 << 10

// Verified is what a file was found to prove.
type Verified struct {
	Statement
	Seal string
	Row  *Row // the one row that the file is about; nil: it is the whole archive
}

// VerifyFile checks an exported archive, or the proof of one row, with nothing but the public keys. It holds one line at a time. What is wrong is
// told as VerifySeal, VerifyRow and Verifier do; a line that cannot be read is a RowError, with row 0 for the first line.
func VerifyFile(keys jose.JSONWebKeySet, file io.Reader) (Verified, error) {
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, maxLine)
	var first exportedProof
	if !lines.Scan() {
		return Verified{}, fmt.Errorf("%w: the file is empty", ErrSealMalformed)
	}
	if err := json.Unmarshal(lines.Bytes(), &first, json.RejectUnknownMembers(true)); err != nil {
		return Verified{}, fmt.Errorf("%w: the first line: %w", ErrSealMalformed, err)
	}
	if err := same(lines.Bytes(), first); err != nil {
		return Verified{}, fmt.Errorf("%w: the first line: %w", ErrSealMalformed, err)
	}
	found := Verified{Seal: first.Seal}
	var err error
	if found.Statement, err = VerifySeal(keys, first.Seal); err != nil {
		return Verified{}, err
	}
	verifier, rows := NewVerifier(found.Statement), int64(0)
	for lines.Scan() {
		rows++
		if first.Row != nil {
			return Verified{}, &RowError{rows, "a proof is one line"}
		}
		row, err := readRow(lines.Bytes())
		if err != nil {
			return Verified{}, &RowError{rows, err.Error()}
		}
		if err := verifier.Row(row); err != nil {
			return Verified{}, err
		}
	}
	if err := lines.Err(); err != nil {
		return Verified{}, fmt.Errorf("row %d: %w", rows+1, err)
	}
	if first.Row == nil {
		return found, verifier.End()
	}
	row, err := first.Row.row()
	if err != nil {
		return Verified{}, &RowError{1, err.Error()}
	}
	found.Row = &row
	return found, VerifyRow(found.Statement, row, first.Path)
}

func readRow(line []byte) (Row, error) {
	var row exportedRow
	if err := json.Unmarshal(line, &row, json.RejectUnknownMembers(true)); err != nil {
		return Row{}, err
	}
	if err := same(line, row); err != nil {
		return Row{}, err
	}
	return row.row()
}

// same says whether a line is the one that is written for what was read from it: no byte of a file may change and it still be
// genuine.
func same(line []byte, read any) error {
	text, err := json.Marshal(read)
	if err == nil && !bytes.Equal(text, line) {
		err = errors.New("it is not written as an export writes it")
	}
	return err
}
