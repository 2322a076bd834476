package merkle_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"liveops/core/merkle"
)

func unhex(t testing.TB, text string) []byte {
	t.Helper()
	raw, err := hex.DecodeString(text)
	require.NoError(t, err)
	return raw
}

func hash(t testing.TB, text string) merkle.Hash {
	t.Helper()
	return merkle.Hash(unhex(t, text))
}

// The leaves, roots and paths that the tests of certificate-transparency and its Go port check.
var (
	vectorLeaves = []string{
		"", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
	}
	vectorRoots = []string{
		"6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
		"fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
		"aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
		"d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
		"4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
		"76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
		"ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
		"5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
	}
	vectorPaths = []struct {
		index, size int
		path        []string
	}{
		{0, 1, nil},
		{0, 8, []string{
			"96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
			"5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
			"6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
		}},
		{5, 8, []string{
			"bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
			"ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
			"d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
		}},
		{2, 3, []string{"fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"}},
		{1, 5, []string{
			"6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
			"5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
			"bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
		}},
	}
)

func TestKnownTrees(t *testing.T) {
	t.Parallel()
	var tree merkle.Tree
	require.Equal(t, hash(t, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"), tree.Root())
	var leaves []merkle.Hash
	for i, text := range vectorLeaves {
		leaf := merkle.Leaf(unhex(t, text))
		leaves = append(leaves, leaf)
		tree.Add(leaf)
		require.EqualValues(t, i+1, tree.Size())
		require.Equal(t, hash(t, vectorRoots[i]), tree.Root(), i)
		require.Equal(t, hash(t, vectorRoots[i]), merkle.Root(leaves), i)
	}
	for _, v := range vectorPaths {
		path := merkle.Path(leaves[:v.size], v.index)
		require.Len(t, path, len(v.path))
		for i, want := range v.path {
			require.Equal(t, hash(t, want), path[i], "%d of %d", v.index, v.size)
		}
		require.True(t, merkle.Verify(hash(t, vectorRoots[v.size-1]), int64(v.size), int64(v.index), leaves[v.index], path))
	}
	tree.Reset()
	require.Zero(t, tree.Size())
	tree.Add(leaves[0])
	require.Equal(t, hash(t, vectorRoots[0]), tree.Root())
}

// naive is MTH as the RFC writes it down.
func naive(data [][]byte) merkle.Hash {
	switch n := len(data); n {
	case 0:
		return sha256.Sum256(nil)
	case 1:
		return sha256.Sum256(append([]byte{0}, data[0]...))
	default:
		k := naiveSplit(n)
		left, right := naive(data[:k]), naive(data[k:])
		return sha256.Sum256(append(append([]byte{1}, left[:]...), right[:]...))
	}
}

// naivePath is PATH as the RFC writes it down.
func naivePath(m int, data [][]byte) []merkle.Hash {
	n := len(data)
	if n == 1 {
		return nil
	}
	if k := naiveSplit(n); m < k {
		return append(naivePath(m, data[:k]), naive(data[k:]))
	} else {
		return append(naivePath(m-k, data[k:]), naive(data[:k]))
	}
}

func naiveSplit(n int) int {
	k := 1
	for k*2 < n {
		k *= 2
	}
	return k
}

func drawn(n int) (data [][]byte, leaves []merkle.Hash) {
	for i := range n {
		data = append(data, fmt.Appendf(nil, "leaf %d", i))
		leaves = append(leaves, merkle.Leaf(data[i]))
	}
	return data, leaves
}

func TestTreeIsTheRFCs(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 300).Draw(t, "n")
		data, leaves := drawn(n)
		root := merkle.Root(leaves)
		require.Equal(t, naive(data), root)
		if n == 0 {
			return
		}
		index := rapid.IntRange(0, n-1).Draw(t, "index")
		path := merkle.Path(leaves, index)
		require.Equal(t, naivePath(index, data), path)
		require.True(t, merkle.Verify(root, int64(n), int64(index), leaves[index], path))
	})
}

func TestTreeOfBlocks(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		block := 1 << rapid.IntRange(0, 5).Draw(t, "block")
		n := rapid.IntRange(1, 200).Draw(t, "n")
		_, leaves := drawn(n)
		var roots []merkle.Hash
		for from := 0; from < n; from += block {
			roots = append(roots, merkle.Root(leaves[from:min(from+block, n)]))
		}
		require.Equal(t, merkle.Root(leaves), merkle.Root(roots))
		index := rapid.IntRange(0, n-1).Draw(t, "index")
		from := index / block * block
		path := append(merkle.Path(leaves[from:min(from+block, n)], index-from), merkle.Path(roots, index/block)...)
		require.Equal(t, append([]merkle.Hash{}, merkle.Path(leaves, index)...), append([]merkle.Hash{}, path...))
	})
}

func TestVerifyRefusesWhatIsNotSo(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 100).Draw(t, "n")
		_, leaves := drawn(n)
		root := merkle.Root(leaves)
		index := rapid.IntRange(0, n-1).Draw(t, "index")
		path := merkle.Path(leaves, index)
		verify := func(size, index int, leaf merkle.Hash, path []merkle.Hash) bool {
			return merkle.Verify(root, int64(size), int64(index), leaf, path)
		}
		require.True(t, verify(n, index, leaves[index], path))

		other := rapid.IntRange(-2, n+2).Draw(t, "other")
		if other != index {
			require.False(t, verify(n, other, leaves[index], path))
			if other >= 0 && other < n {
				require.False(t, verify(n, index, leaves[other], path))
			}
		}
		require.False(t, verify(0, index, leaves[index], path))
		require.False(t, verify(n, index, leaves[index], append(path[:len(path):len(path)], root)))
		if len(path) == 0 {
			return
		}
		require.False(t, verify(n, index, leaves[index], path[:len(path)-1]))
		require.False(t, verify(n, index, leaves[index], path[1:]))
		bit := rapid.IntRange(0, 255).Draw(t, "bit")
		at := rapid.IntRange(0, len(path)-1).Draw(t, "at")
		path[at][bit/8] ^= 1 << (bit % 8)
		require.False(t, verify(n, index, leaves[index], path))
		path[at][bit/8] ^= 1 << (bit % 8)
		root[bit/8] ^= 1 << (bit % 8)
		require.False(t, verify(n, index, leaves[index], path))
	})
}

func TestHashAsText(t *testing.T) {
	t.Parallel()
	want := merkle.Leaf([]byte("x"))
	text, err := want.MarshalText()
	require.NoError(t, err)
	require.Len(t, text, 43)
	var got merkle.Hash
	require.NoError(t, got.UnmarshalText(text))
	require.Equal(t, want, got)
	for _, wrong := range []string{
		"", string(text[:42]), string(text) + "A", string(text) + "=", string(text[:42]) + "\n", string(text[:40]) + "+/A",
		string(text[:42]) + string(text[42]+1), // the same bytes in another spelling
	} {
		require.Error(t, got.UnmarshalText([]byte(wrong)), wrong)
	}
	require.Equal(t, want, got)
}

func BenchmarkTree(b *testing.B) {
	row := []byte("123456\t123456\tVs5uYbE3PZ2MZ0cpnIKbWrJyKNmL2SBD1tXk9m8cb1I\t1234567\t1790000000000\n")
	var tree merkle.Tree
	for b.Loop() {
		tree.Add(merkle.Leaf(row))
	}
}
