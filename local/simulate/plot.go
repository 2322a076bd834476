package simulate

import (
	"fmt"
	"image/color"
	"io"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
	"gonum.org/v1/plot/vg/vgsvg"
)

// The size of one panel of a plot.
const (
	panelWidth  = 11 * vg.Centimeter
	panelHeight = 9 * vg.Centimeter
)

// Plot draws curves side by side, as "svg" or "png": the share of players that is found against the limit, with the two
// policies' limits marked.
func Plot(to io.Writer, format string, curves []Curve) error {
	if len(curves) == 0 {
		return fmt.Errorf("plot: the policies have no statistical rules")
	}
	width := vg.Length(len(curves)) * panelWidth
	var canvas interface {
		vg.CanvasSizer
		io.WriterTo
	}
	switch format {
	case "svg":
		canvas = vgsvg.New(width, panelHeight)
	case "png":
		canvas = vgimg.PngCanvas{Canvas: vgimg.New(width, panelHeight)}
	default:
		return fmt.Errorf("plot: %q is neither svg nor png", format)
	}
	row := make([]*plot.Plot, len(curves))
	for i, c := range curves {
		var err error
		if row[i], err = c.panel(); err != nil {
			return fmt.Errorf("plot %s: %w", c.Rule, err)
		}
	}
	gap := vg.Points(12)
	tiles := draw.Tiles{Rows: 1, Cols: len(row), PadX: gap, PadTop: gap, PadBottom: gap, PadLeft: gap, PadRight: gap}
	for i, at := range plot.Align([][]*plot.Plot{row}, tiles, draw.New(canvas))[0] {
		row[i].Draw(at)
	}
	_, err := canvas.WriteTo(to)
	return err
}

func (c Curve) panel() (*plot.Plot, error) {
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = c.Rule, "limit", "players found, %"
	p.Legend.Top, p.Legend.Padding = true, vg.Points(2)
	p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, ticks(c)
	p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = c.Points[0].Limit, c.Points[len(c.Points)-1].Limit, 0, 0
	line := func(name string, ink color.Color, dashes []vg.Length, points plotter.XYs) error {
		l, err := plotter.NewLine(points)
		if err != nil || len(points) == 0 {
			return err
		}
		l.Color, l.Dashes, l.Width = ink, dashes, vg.Points(1.2)
		p.Add(l)
		p.Legend.Add(name, l)
		return nil
	}
	curve := func(name string, ink color.Color, share func(Point) *float64) error {
		var points plotter.XYs
		for _, point := range c.Points {
			if y := share(point); y != nil {
				points = append(points, plotter.XY{X: point.Limit, Y: 100 * *y})
				p.Y.Max = max(p.Y.Max, 140**y) // with room for the legend
			}
		}
		if points == nil {
			return nil
		}
		return line(name, ink, nil, points)
	}
	mark := func(name string, ink color.Color, limit float64) error {
		if limit == 0 {
			return nil
		}
		return line(name+" "+strconv.FormatFloat(limit, 'g', -1, 64), ink, []vg.Length{vg.Points(4), vg.Points(3)},
			plotter.XYs{{X: limit, Y: 0}, {X: limit, Y: p.Y.Max}})
	}
	all := func(p Point) *float64 { return &p.Found }
	for _, err := range []error{
		curve("all", color.Black, all),
		curve("cheats", color.RGBA{R: 0xc0, G: 0x20, B: 0x20, A: 0xff}, func(p Point) *float64 { return p.Cheats }),
		curve("clean", color.RGBA{R: 0x20, G: 0x80, B: 0x40, A: 0xff}, func(p Point) *float64 { return p.Clean }),
	} {
		if err != nil {
			return nil, err
		}
	}
	p.Y.Max = max(p.Y.Max, 1) // with nobody found there is still an axis
	if err := mark("current", color.Gray{Y: 0x80}, c.Current); err != nil {
		return nil, err
	}
	return p, mark("candidate", color.RGBA{R: 0x20, G: 0x50, B: 0xc0, A: 0xff}, c.Candidate)
}

// ticks are round numbers: 1, 2 and 5 of every power of ten in sight.
func ticks(c Curve) plot.Ticker {
	return plot.TickerFunc(func(least, most float64) (ticks []plot.Tick) {
		for power := -9; power <= 9; power++ {
			for _, digit := range []string{"1", "2", "5"} {
				at, _ := strconv.ParseFloat(fmt.Sprintf("%se%d", digit, power), 64)
				if at >= least && at <= most {
					ticks = append(ticks, plot.Tick{Value: at, Label: strconv.FormatFloat(at, 'g', -1, 64)})
				}
			}
		}
		return ticks
	})
}
