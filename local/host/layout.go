package host

import (
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// Layout presents a repository, with host.json at its top and the functions below functions/, as the script root that the
// host reads: every function's folder beside host.json.
func Layout(repository fs.FS) fs.FS { return layout{repository} }

type layout struct{ repository fs.FS }

// Open implements fs.FS.
func (l layout) Open(name string) (fs.File, error) {
	switch {
	case !fs.ValidPath(name):
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	case name == ".":
		return l.top()
	case name == "host.json":
		return l.repository.Open(name)
	}
	if first, _, _ := strings.Cut(name, "/"); first == "host.json" {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return l.repository.Open(path.Join("functions", name))
}

func (l layout) top() (fs.File, error) {
	dir, err := l.repository.Open(".")
	if err != nil {
		return nil, err
	}
	entries, err := fs.ReadDir(l.repository, "functions")
	if err != nil {
		_ = dir.Close()
		return nil, err
	}
	if info, err := fs.Stat(l.repository, "host.json"); err == nil {
		entries = append(entries, fs.FileInfoToDirEntry(info))
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return &top{File: dir, left: entries}, nil
}

// top is the repository's own top directory with other entries in it.
type top struct {
	fs.File
	left []fs.DirEntry
}

// ReadDir implements fs.ReadDirFile.
func (t *top) ReadDir(n int) ([]fs.DirEntry, error) {
	if n <= 0 {
		n = len(t.left)
	} else if len(t.left) == 0 {
		return nil, io.EOF
	}
	n = min(n, len(t.left))
	some := t.left[:n]
	t.left = t.left[n:]
	return some, nil
}
