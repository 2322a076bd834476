// Package playbooks reads docs/playbooks: its pages, the code in them, and the commands as a shell would take them. Tests hold
// them to what is in the tree, here and in cmd/liveops.
package playbooks

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// Start is the name of the page that the others build on: what its commands set, theirs use.
const Start = "README"

// Page is a file of docs/playbooks.
type Page struct {
	Name string // of the file, without .md
	Text string
}

// Block is fenced code of a page.
type Block struct {
	Language, Text string
}

// Read gives the pages in the order of their names, of the repository at root.
func Read(root string) ([]Page, error) {
	files, err := filepath.Glob(filepath.Join(root, "docs/playbooks/*.md"))
	if err != nil {
		return nil, err
	}
	pages := make([]Page, len(files))
	for i, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		pages[i] = Page{strings.TrimSuffix(filepath.Base(file), ".md"), string(text)}
	}
	return pages, nil
}

// A fence may be indented, as part of a list.
var fenced = regexp.MustCompile("(?ms)^( *)```(\\w*)\n(.*?)^ *```$")

// Blocks is the fenced code of one language.
func (p Page) Blocks(language string) []Block {
	var blocks []Block
	for _, found := range fenced.FindAllStringSubmatch(p.Text, -1) {
		if found[2] == language {
			blocks = append(blocks, Block{language, strings.ReplaceAll("\n"+found[3], "\n"+found[1], "\n")[1:]})
		}
	}
	return blocks
}

// Command is one command of a shell's line, its words expanded.
type Command struct {
	Words  []string
	Output string // the file that its output goes to; empty: none
}

// Shell takes the commands of pages. It knows what they use of bash and refuses the rest.
type Shell struct {
	root      string
	variables map[string]string
	functions map[string]string
}

// NewShell is a shell in the directory root, with a home.
func NewShell(root, home string) *Shell {
	return &Shell{root, map[string]string{"HOME": home}, map[string]string{}}
}

// Commands gives the commands of a page, after those of the page that it builds on.
func Commands(root, home string, pages []Page, of Page) ([]Command, error) {
	shell := NewShell(root, home)
	for _, page := range pages {
		if page.Name == Start {
			commands, err := shell.page(page)
			if err != nil || of.Name == Start {
				return commands, err
			}
		}
	}
	return shell.page(of)
}

func (s *Shell) page(p Page) ([]Command, error) {
	var all []Command
	for _, block := range p.Blocks("sh") {
		commands, err := s.Run(block.Text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.Name, err)
		}
		all = append(all, commands...)
	}
	return all, nil
}

var (
	definition = regexp.MustCompile(`(?m)^(\w+)\(\) \{ (.*); \}$`)
	assignment = regexp.MustCompile(`^(\w+)=(.*)$`)
)

// Run takes a script: it sets variables and functions and gives the other commands.
func (s *Shell) Run(script string) ([]Command, error) {
	for _, found := range definition.FindAllStringSubmatch(script, -1) {
		s.functions[found[1]] = found[2]
	}
	parsed, err := s.parse(definition.ReplaceAllString(script, ""))
	if err != nil {
		return nil, err
	}
	var commands []Command
	for _, command := range parsed {
		body, function := s.functions[command.Words[0]]
		switch {
		case function:
			s.variables["1"] = strings.Join(command.Words[1:], " ")
			inner, err := s.Run(body)
			if err != nil {
				return nil, err
			}
			commands = append(commands, inner...)
		case command.Words[0] == "." && len(command.Words) == 2:
			if err := s.source(command.Words[1]); err != nil {
				return nil, err
			}
		default:
			commands = append(commands, command)
		}
	}
	return commands, nil
}

// source sets the variables of a file.
func (s *Shell) source(file string) error {
	text, err := os.ReadFile(filepath.Join(s.root, file))
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(text)) {
		if found := assignment.FindStringSubmatch(strings.TrimSpace(line)); found != nil {
			s.variables[found[1]] = found[2]
		}
	}
	return nil
}

// parser takes a script apart. A word is nil until something is written to it, if only quotes.
type parser struct {
	shell    *Shell
	rest     string
	word     *strings.Builder
	command  Command
	output   bool // the next word is a file that output goes to
	commands []Command
}

func (s *Shell) parse(script string) ([]Command, error) {
	p := &parser{shell: s, rest: script}
	for p.rest != "" {
		if err := p.step(); err != nil {
			return nil, err
		}
	}
	p.endCommand()
	return p.commands, nil
}

var errUnclosed = errors.New("a quote is not closed")

// step takes the next character and what belongs to it.
func (p *parser) step() error {
	c := p.rest[0]
	p.rest = p.rest[1:]
	switch c {
	case ' ', '\t':
		p.endWord()
	case '\n', ';', '|', '&':
		p.endCommand()
	case '#':
		if p.word != nil {
			p.write("#")
			return nil
		}
		_, p.rest, _ = strings.Cut(p.rest, "\n")
		p.endCommand()
	case '>':
		p.endWord()
		p.output = true
	case '\\':
		p.rest = strings.TrimPrefix(p.rest, "\n") // nothing else is escaped outside of quotes
	case '\'':
		text, after, closed := strings.Cut(p.rest, "'")
		if !closed {
			return errUnclosed
		}
		p.write(text)
		p.rest = after
	case '"':
		return p.quoted()
	case '$':
		value, err := p.expand()
		if err != nil {
			return err
		}
		for i, part := range strings.Split(value, " ") {
			if i > 0 {
				p.endWord()
			}
			if part != "" {
				p.write(part)
			}
		}
	case '`', '<', '(', ')':
		return fmt.Errorf("%q is more of a shell than a page should need", c)
	default:
		p.write(string(c))
	}
	return nil
}

func (p *parser) write(text string) {
	if p.word == nil {
		p.word = new(strings.Builder)
	}
	p.word.WriteString(text)
}

// quoted takes what is between double quotes.
func (p *parser) quoted() error {
	p.write("")
	for p.rest != "" {
		c := p.rest[0]
		p.rest = p.rest[1:]
		switch c {
		case '"':
			return nil
		case '\\':
			if p.rest != "" {
				p.write(p.rest[:1])
				p.rest = p.rest[1:]
			}
		case '$':
			value, err := p.expand()
			if err != nil {
				return err
			}
			p.write(value)
		default:
			p.write(string(c))
		}
	}
	return errUnclosed
}

// A variable, perhaps without what follows a dot: the first name of a host.
var variable = regexp.MustCompile(`^(?:(\w+)|\{(\w+)(%%\.\*)?\})`)

func (p *parser) expand() (string, error) {
	found := variable.FindStringSubmatch(p.rest)
	if found == nil {
		return "", fmt.Errorf("$%.10s… is more of a shell than a page should need", p.rest)
	}
	p.rest = p.rest[len(found[0]):]
	name := found[1] + found[2]
	value, set := p.shell.variables[name]
	if !set {
		return "", fmt.Errorf("$%s is not set", name)
	}
	if found[3] != "" {
		value, _, _ = strings.Cut(value, ".")
	}
	return value, nil
}

func (p *parser) endWord() {
	if p.word == nil {
		return
	}
	word := p.word.String()
	p.word = nil
	if p.output {
		p.command.Output, p.output = word, false
		return
	}
	p.command.Words = append(p.command.Words, word)
}

// endCommand ends a command; one that only sets a variable sets it.
func (p *parser) endCommand() {
	p.endWord()
	if len(p.command.Words) == 1 {
		if set := assignment.FindStringSubmatch(p.command.Words[0]); set != nil {
			p.shell.variables[set[1]] = set[2]
			p.command = Command{}
			return
		}
	}
	if len(p.command.Words) > 0 {
		p.commands = append(p.commands, p.command)
	}
	p.command = Command{}
}
