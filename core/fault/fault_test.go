package fault_test

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"liveops/core/fault"
)

// declared reads the codes that codes.go declares, and the names its catalogue has an entry for.
func declared(t *testing.T) (consts map[string]fault.Code, entries []string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "codes.go", nil, 0)
	require.NoError(t, err)
	consts = map[string]fault.Code{}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.ValueSpec:
			kind, ok := n.Type.(*ast.Ident)
			if ok && kind.Name == "Code" {
				value, ok := n.Values[0].(*ast.BasicLit)
				require.True(t, ok, n.Names[0].Name)
				text, err := strconv.Unquote(value.Value)
				require.NoError(t, err)
				consts[n.Names[0].Name] = fault.Code(text)
			}
		case *ast.CompositeLit:
			if kind, ok := n.Type.(*ast.MapType); ok && kind.Key.(*ast.Ident).Name == "Code" {
				for _, element := range n.Elts {
					entries = append(entries, element.(*ast.KeyValueExpr).Key.(*ast.Ident).Name)
				}
			}
		}
		return true
	})
	require.NotEmpty(t, consts)
	require.NotEmpty(t, entries)
	return consts, entries
}

func TestCatalogueHoldsEveryCodeOnce(t *testing.T) {
	t.Parallel()
	consts, entries := declared(t)
	names, titles := map[fault.Code]string{}, map[string]string{}
	for name, code := range consts {
		require.Contains(t, entries, name, "%s has no entry in the catalogue", name)
		require.Empty(t, names[code], "%s and %s are the same code", name, names[code])
		names[code] = name
		require.Regexp(t, `^[a-z]+(-[a-z]+)*$`, string(code))
		require.Regexp(t, `^[A-Z].*[^.]$`, code.Title(), name)
		require.Empty(t, titles[code.Title()], "%s and %s have the same title", name, titles[code.Title()])
		titles[code.Title()] = name
		if code != fault.Unexpected {
			require.NotEqual(t, fault.Internal, code.Kind(), name)
		}
	}
	require.Len(t, entries, len(consts))
	require.Len(t, fault.Codes(), len(consts))
	require.IsIncreasing(t, fault.Codes())
}

func TestKinds(t *testing.T) {
	t.Parallel()
	names := map[string]bool{}
	for k := fault.Internal; k <= fault.Unavailable; k++ {
		require.NotEmpty(t, k.String())
		require.Equal(t, k.String(), k.Error())
		require.False(t, names[k.String()], k.String())
		names[k.String()] = true
	}
	require.Equal(t, "unavailable", fault.Unavailable.String())
}

func TestIs(t *testing.T) {
	t.Parallel()
	err := fmt.Errorf("read player: %w", fault.PlayerNotFound.Errorf("nobody called %q", "x"))
	require.ErrorIs(t, err, fault.NotFound)
	require.ErrorIs(t, err, fault.PlayerNotFound)
	require.NotErrorIs(t, err, fault.Invalid)
	require.NotErrorIs(t, err, fault.BoardNotFound)
	require.NotErrorIs(t, err, io.EOF)
	require.Equal(t, fault.NotFound, fault.KindOf(err))
	require.Equal(t, fault.PlayerNotFound, fault.CodeOf(err))
	require.EqualError(t, err, `read player: player-not-found: nobody called "x"`)
	require.Equal(t, `nobody called "x"`, fault.Of(err).Detail)
}

func TestCodesOfAKind(t *testing.T) {
	t.Parallel()
	require.Equal(t, []fault.Code{fault.CoolingDown, fault.DailyCap, fault.MinimumInterval, fault.RateExceeded}, fault.RateLimited.Codes())
	sum := 0
	for kind := fault.Internal; kind <= fault.Unavailable; kind++ {
		for _, code := range kind.Codes() {
			require.Equal(t, kind, code.Kind())
			sum++
		}
	}
	require.Len(t, fault.Codes(), sum)
}

func TestWrapKeepsTheCause(t *testing.T) {
	t.Parallel()
	err := error(fault.DatabaseUnavailable.Wrap(io.ErrUnexpectedEOF, "try again").After(3 * time.Second))
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.ErrorIs(t, err, fault.Unavailable)
	require.EqualError(t, err, "database-unavailable: try again: unexpected EOF")
	require.Equal(t, "try again", fault.Of(err).Detail, "the cause is not for the caller")
	require.Equal(t, 3*time.Second, fault.Of(err).RetryAfter)
}

func TestTheOutermostFaultCounts(t *testing.T) {
	t.Parallel()
	inner := fault.RedisUnavailable.Errorf("no answer")
	err := fault.EventInvalid.Wrap(inner, "no")
	require.Equal(t, fault.EventInvalid, fault.CodeOf(err))
	require.ErrorIs(t, err, fault.RedisUnavailable)
}

func TestWhatNobodyClassifiedIsInternal(t *testing.T) {
	t.Parallel()
	for _, err := range []error{io.EOF, nil, errors.Join(io.EOF, io.ErrNoProgress)} {
		require.Equal(t, fault.Internal, fault.KindOf(err))
		require.Equal(t, fault.Unexpected, fault.CodeOf(err))
	}
	of := fault.Of(io.EOF)
	require.Equal(t, fault.Unexpected, of.Code)
	require.ErrorIs(t, of, io.EOF)
	require.Empty(t, of.Detail)
}
