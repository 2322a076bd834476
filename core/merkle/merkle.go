// Package merkle makes Merkle trees of SHA-256 as RFC 6962 §2.1 has them: the root over a list of leaves, the path from one
// leaf up to it, and whether a path leads there. It does not know what a leaf says or where it is kept.
//
// A tree may be made of parts: the root over the roots of aligned blocks, each of the same power of two of leaves but for the
// last, is the root over all leaves, and the path within a block goes on with the path of the block.
package merkle

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"math/bits"
)

// Hash is the hash of a leaf or of a node. As text it is base64url, 43 characters.
type Hash [sha256.Size]byte

// Leaf is the hash of what a leaf says.
func Leaf(data []byte) Hash {
	h := sha256.New()
	h.Write([]byte{0})
	h.Write(data)
	var sum Hash
	h.Sum(sum[:0])
	return sum
}

// node is the hash of two subtrees. Its prefix keeps it from being taken for a leaf.
func node(left, right Hash) Hash {
	var data [1 + 2*sha256.Size]byte
	data[0] = 1
	copy(data[1:], left[:])
	copy(data[1+sha256.Size:], right[:])
	return sha256.Sum256(data[:])
}

// String is the hash as text.
func (h Hash) String() string { return base64.RawURLEncoding.EncodeToString(h[:]) }

// MarshalText is String.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText reads what MarshalText wrote, and no other spelling of it.
func (h *Hash) UnmarshalText(text []byte) error {
	var read Hash
	n, err := base64.RawURLEncoding.Strict().Decode(read[:], text[:min(len(text), 43)])
	if err != nil || n != len(read) || len(text) != 43 {
		return errors.New("a hash is 43 characters of base64url")
	}
	*h = read
	return nil
}

// Tree is the tree over a list of leaves that grows. It remembers as many hashes as its size has binary digits. The zero
// value is the tree without leaves.
type Tree struct {
	size  int64
	peaks []Hash // of the complete subtrees, one for each 1 of the size's binary digits, the largest first
}

// Add appends a leaf, or the root of a block.
func (t *Tree) Add(leaf Hash) {
	for n := t.size; n&1 == 1; n >>= 1 {
		last := len(t.peaks) - 1
		leaf = node(t.peaks[last], leaf)
		t.peaks = t.peaks[:last]
	}
	t.peaks = append(t.peaks, leaf)
	t.size++
}

// Size is the number of leaves.
func (t *Tree) Size() int64 { return t.size }

// Root is the hash over all leaves; without any it is the hash of nothing.
func (t *Tree) Root() Hash {
	if t.size == 0 {
		return sha256.Sum256(nil)
	}
	root := t.peaks[len(t.peaks)-1]
	for i := len(t.peaks) - 2; i >= 0; i-- {
		root = node(t.peaks[i], root)
	}
	return root
}

// Reset takes all leaves away.
func (t *Tree) Reset() { t.size, t.peaks = 0, t.peaks[:0] }

// Root is the root over leaves.
func Root(leaves []Hash) Hash {
	var t Tree
	for _, leaf := range leaves {
		t.Add(leaf)
	}
	return t.Root()
}

// Path gives the hashes that lead from a leaf to the root over leaves, from below: PATH(index, leaves) of the RFC. The index
// counts from 0 and is below len(leaves).
func Path(leaves []Hash, index int) []Hash {
	if len(leaves) == 1 {
		return nil
	}
	k := split(len(leaves))
	if index < k {
		return append(Path(leaves[:k], index), Root(leaves[k:]))
	}
	return append(Path(leaves[k:], index-k), Root(leaves[:k]))
}

// split is the largest power of two below n, for n ≥ 2.
func split(n int) int { return 1 << (bits.Len(uint(n-1)) - 1) }

// Verify says whether a path leads from a leaf, the index-th from 0 of size leaves, to a root. It takes no path that is longer
// or shorter than this index has.
func Verify(root Hash, size, index int64, leaf Hash, path []Hash) bool {
	if index < 0 || index >= size {
		return false
	}
	// As RFC 9162 §2.1.3.2 has it: on its way up the leaf is a right child where its index is odd, and where it is the last
	// of its level, which has no sibling then.
	last := size - 1
	for _, sibling := range path {
		if last == 0 {
			return false
		}
		if index&1 == 1 || index == last {
			leaf = node(sibling, leaf)
			for index&1 == 0 && index != 0 {
				index, last = index>>1, last>>1
			}
		} else {
			leaf = node(leaf, sibling)
		}
		index, last = index>>1, last>>1
	}
	return last == 0 && leaf == root
}
