package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"liveops/core/catalog"
)

type catalogCommand struct {
	Check  catalogCheck  `cmd:"" help:"Name every mistake of catalogs, with line and path."`
	Diff   catalogDiff   `cmd:"" help:"Tell what another version of a catalog changes for players."`
	Schema catalogSchema `cmd:"" help:"Write the JSON Schema of catalogs, for editors, to standard output."`
}

// Help implements kong's longer help.
func (catalogCommand) Help() string {
	return `A catalog is the file with a game's numbers. The exit code is 3 when one cannot be used.

Examples:
  liveops catalog check catalog.yaml
  liveops catalog diff running.yaml catalog.yaml
  liveops catalog schema > catalog.schema.json`
}

type catalogCheck struct {
	Files []string `arg:"" name:"file" help:"Catalogs." type:"existingfile"`
}

// Help implements kong's longer help.
func (catalogCheck) Help() string {
	return `Prints a line for each mistake, FILE:LINE: PATH: TEXT, or one for a catalog that can be used.
The exit code is 3 when one of them cannot.

Examples:
  liveops catalog check catalog.yaml
  liveops catalog check games/*/catalog.yaml`
}

func (c catalogCheck) Run(t *terminal) error {
	var refused error
	for _, name := range c.Files {
		game, err := checked(t.out, name)
		switch {
		case errors.Is(err, errRefused):
			refused = err
		case err != nil:
			return err
		default:
			t.out.printf("%s: %s version %d is good (event types %d, levels %d, bosses %d, items %d, modifiers %d, boards %d, seasons %d)\n",
				name, game.Name, game.Version, len(game.Events), len(game.XP.Table), len(game.Bosses), len(game.Items), len(game.Modifiers),
				len(game.Boards), len(game.Seasons))
		}
	}
	return refused
}

// checked loads a catalog, or prints each of its mistakes on a line that editors and terminals can jump to. The error is then errRefused.
func checked(to *printer, name string) (*catalog.Catalog, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	game, err := catalog.Parse(text)
	problems, ok := errors.AsType[*catalog.Problems](err)
	if !ok {
		return game, err
	}
	for _, p := range problems.List {
		if p.Path != "" {
			p.Text = p.Path + ": " + p.Text
		}
		to.printf("%s:%d: %s\n", name, max(1, p.Line), p.Text)
	}
	return nil, errRefused
}

type catalogDiff struct {
	Before string `arg:"" help:"The catalog that is in force." type:"existingfile"`
	After  string `arg:"" help:"The one that is to follow it." type:"existingfile"`
	JSON   bool   `name:"json" help:"Write the changes as JSON."`
}

// Help implements kong's longer help.
func (catalogDiff) Help() string {
	return `Prints a sentence for each change, in the order of the file. What is marked with ! is worth a second
look: it may be meant, and cannot be taken back for who was there before. The exit code is 3 when a
system that runs the first would refuse the second, because its version is not above.

Examples:
  liveops catalog diff running.yaml catalog.yaml
  liveops catalog diff --json running.yaml catalog.yaml`
}

func (c catalogDiff) Run(t *terminal) error {
	before, errBefore := checked(t.out, c.Before)
	after, errAfter := checked(t.out, c.After)
	if err := errors.Join(errBefore, errAfter); err != nil {
		return err
	}
	changes := catalog.Compare(before, after)
	if c.JSON {
		text, err := json.Marshal(changes, jsontext.WithIndent("  "))
		if err != nil {
			return err
		}
		t.out.printf("%s\n", text)
	} else {
		printChanges(t.out, before, after, changes)
	}
	if !catalog.Follows(before, after) {
		return errRefused
	}
	return nil
}

func printChanges(to *printer, before, after *catalog.Catalog, changes []catalog.Change) {
	section, warnings := "", 0
	for _, change := range changes {
		if of := change.Section(); of != section {
			section = of
			to.printf("%s\n", section)
		}
		mark := " "
		if change.Warning {
			mark = "!"
			warnings++
		}
		to.printf("  %s %s\n", mark, change.Text)
	}
	if !catalog.Follows(before, after) && len(changes) == 0 {
		to.printf("the two are the same game in the same version, %d\n", after.Version)
		return
	}
	to.printf("%s, %d to be looked at twice\n", counted(len(changes), "change"), warnings)
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

type catalogSchema struct{}

// Help implements kong's longer help.
func (catalogSchema) Help() string {
	return `An editor that knows JSON Schema completes and checks a catalog whose first line is
# yaml-language-server: $schema=catalog.schema.json

Examples:
  liveops catalog schema > catalog.schema.json`
}

func (catalogSchema) Run(t *terminal) error {
	text, err := catalog.Schema()
	if err != nil {
		return err
	}
	_, err = t.out.Write(text)
	return err
}
