package main

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// terminal is what a command reads and writes.
type terminal struct {
	in  io.Reader
	out *printer
	err io.Writer
}

// printer writes what a command has to say. The first write that fails is kept in err, where run finds it, so that a
// command need not ask after every line.
type printer struct {
	to  io.Writer
	err error
}

// Write implements io.Writer.
func (p *printer) Write(text []byte) (int, error) {
	if p.err != nil {
		return 0, p.err
	}
	n, err := p.to.Write(text)
	p.err = err
	return n, err
}

func (p *printer) printf(format string, args ...any) { _, _ = fmt.Fprintf(p, format, args...) }

// table prints rows of cells that end in tabs. align is 0 or tabwriter.AlignRight.
func (p *printer) table(align uint, rows func(row func(format string, args ...any))) {
	w := tabwriter.NewWriter(p, 0, 0, 2, ' ', align)
	rows(func(format string, args ...any) { _, _ = fmt.Fprintf(w, format+"\n", args...) })
	_ = w.Flush()
}
