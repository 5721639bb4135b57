package manual

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// writer builds a page of man(7) macros.
type writer struct{ strings.Builder }

// macro writes a request whose arguments are quoted.
func (w *writer) macro(name string, args ...string) {
	w.WriteString("." + name)
	for _, a := range args {
		w.WriteString(` "` + literal(a) + `"`)
	}
	w.WriteByte('\n')
}

// line writes a line of text that is escaped already.
func (w *writer) line(s string) {
	if strings.HasPrefix(s, ".") {
		s = `\&` + s
	}
	w.WriteString(s + "\n")
}

// tag begins a paragraph that hangs below a first line.
func (w *writer) tag(first string) {
	w.WriteString(".TP\n")
	w.line(first)
}

// reference names another page; section holds what follows it too.
func (w *writer) reference(page, section string) {
	w.WriteString(".BR " + literal(page) + " " + section + "\n")
}

// render is the page.
func (d *description) render(version string, date time.Time) string {
	w := &writer{}
	name := pageName(d.Command)
	root := d.Root().Name()
	w.WriteString(".\\\" Made from the help of the command.\n")
	fmt.Fprintf(w, `.TH "%s" 1 "%s" "%s" "User Commands"`+"\n", literal(strings.ToUpper(name)),
		date.UTC().Format(time.DateOnly), literal(strings.TrimSpace(root+" "+version)))
	w.macro("SH", "NAME")
	w.line(literal(name) + ` \- ` + text(lowerFirst(d.Short)))
	w.macro("SH", "SYNOPSIS")
	for i, s := range d.synopsis {
		if i > 0 {
			w.WriteString(".br\n")
		}
		w.line(usageLine(s, d.CommandPath()))
	}
	w.macro("SH", "DESCRIPTION")
	if d.prose == "" {
		d.prose = d.Short + "."
	}
	w.prose(d.prose)
	w.commands(d.Command)
	w.macro("SH", "OPTIONS")
	for _, g := range d.groups {
		if g.heading != "" {
			w.macro("SS", g.heading)
		}
		for _, o := range g.options {
			w.option(o)
		}
	}
	w.macro("SH", "EXIT STATUS")
	for _, e := range d.exits {
		w.tag(bold(e.code))
		w.line(text(e.meaning))
	}
	if d.Example != "" {
		w.macro("SH", "EXAMPLES")
		w.examples(d.Example)
	}
	w.macro("SH", "SEE ALSO")
	for i, s := range d.seeAlso {
		comma := ","
		if i == len(d.seeAlso)-1 {
			comma = ""
		}
		page, section, _ := strings.Cut(s, "(")
		w.reference(page, "("+section+comma)
	}
	return w.String()
}

// commands lists what is below a command, with the pages of what is below the root.
func (w *writer) commands(c *cobra.Command) {
	if !c.HasAvailableSubCommands() {
		return
	}
	w.macro("SH", "COMMANDS")
	for _, sub := range c.Commands() {
		switch {
		case !documented(sub):
		case c.HasParent():
			w.tag(bold(sub.Name()))
			w.line(text(sub.Short))
		default:
			w.tag(bold(sub.Name()))
			w.line(text(sub.Short) + "; see")
			w.reference(pageName(sub), "(1).")
		}
	}
}

// prose writes paragraphs, of which indented ones are printed as they are.
func (w *writer) prose(s string) {
	blank, verbatim := false, false
	first := true
	end := func() {
		if verbatim {
			w.WriteString(".EE\n.RE\n")
		}
		verbatim = false
	}
	for line := range strings.Lines(s) {
		line = strings.TrimRight(line, " \t\n")
		indented := strings.HasPrefix(line, " ") || strings.HasPrefix(line, "\t")
		switch {
		case line == "":
			end()
			blank = true
			continue
		case indented && !verbatim:
			w.WriteString(".PP\n.RS 4\n.EX\n")
			verbatim = true
		case !indented:
			end()
			if blank && !first {
				w.WriteString(".PP\n")
			}
		}
		first, blank = false, false
		if verbatim {
			w.line(literal(strings.TrimSpace(line)))
		} else {
			w.line(text(line))
		}
	}
	end()
}

func (w *writer) option(o option) {
	forms := make([]string, len(o.forms))
	for i, f := range o.forms {
		forms[i] = bold(f.literal)
		if value := strings.TrimLeft(f.value, " "); value != "" {
			forms[i] += f.value[:len(f.value)-len(value)] + italic(value)
		}
	}
	w.tag(strings.Join(forms, ", "))
	for i, h := range o.help {
		if i > 0 {
			w.WriteString(".br\n")
		}
		w.line(text(h))
	}
}

// examples writes command lines, each with what is said about it two spaces or
// more behind it.
func (w *writer) examples(s string) {
	first := true // a heading begins a paragraph by itself
	for line := range strings.Lines(s) {
		command, about, _ := strings.Cut(strings.TrimSpace(line), "  ")
		switch about = strings.TrimSpace(about); {
		case command == "":
			continue
		case about != "":
			w.tag(bold(command))
			w.line(text(about))
		default:
			if !first {
				w.WriteString(".PP\n")
			}
			w.line(bold(command))
		}
		first = false
	}
}

// usageLine sets the command and options in bold and what stands for something
// else in italics.
func usageLine(s, command string) string {
	rest, ok := strings.CutPrefix(s, command)
	if !ok {
		return literal(s)
	}
	var b strings.Builder
	b.WriteString(bold(command))
	last := 0
	for _, m := range usageWord.FindAllStringIndex(rest, -1) {
		b.WriteString(literal(rest[last:m[0]]))
		if word := rest[m[0]:m[1]]; word[0] == '-' {
			b.WriteString(bold(word))
		} else {
			b.WriteString(italic(word))
		}
		last = m[1]
	}
	return b.String() + literal(rest[last:])
}

var usageWord = regexp.MustCompile(`-{1,2}[a-z]+|--|[A-Z]+|flags|options|command`)

// optionWord is an option in prose: at the beginning, or after what is no part of
// a word.
var optionWord = regexp.MustCompile(`(^|[\s'"(\[{|])(--?[A-Za-z][A-Za-z0-9-]*)`)

// text escapes prose and sets options in bold.
func text(s string) string {
	var b strings.Builder
	last := 0
	for _, m := range optionWord.FindAllStringSubmatchIndex(s, -1) {
		b.WriteString(escape(s[last:m[4]], false))
		b.WriteString(bold(s[m[4]:m[5]]))
		last = m[5]
	}
	return b.String() + escape(s[last:], false)
}

func bold(s string) string   { return `\fB` + literal(s) + `\fP` }
func italic(s string) string { return `\fI` + literal(s) + `\fP` }

// literal escapes what readers copy: every dash is a minus.
func literal(s string) string { return escape(s, true) }

// escape makes text of any characters. A dash between letters is a hyphen unless
// all are to be minuses.
func escape(s string, minuses bool) string {
	runes := []rune(s)
	var b strings.Builder
	for i, r := range runes {
		switch {
		case r == '-':
			hyphen := !minuses && i > 0 && i+1 < len(runes) && letter(runes[i-1]) && letter(runes[i+1])
			if !hyphen {
				b.WriteByte('\\')
			}
			b.WriteByte('-')
		case special[r] != "":
			b.WriteString(special[r])
		case r > '~':
			fmt.Fprintf(&b, `\[u%04X]`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// special are characters that mean something to the formatter, or that it would
// print as others.
var special = map[rune]string{
	'\\': `\e`, '\'': `\(aq`, '"': `\(dq`, '`': `\(ga`, '^': `\(ha`, '~': `\(ti`, '\t': "    ",
}

func letter(r rune) bool { return r|0x20 >= 'a' && r|0x20 <= 'z' }

// lowerFirst is for what follows the dash in NAME, where sentences begin small.
func lowerFirst(s string) string {
	if len(s) < 2 || !letter(rune(s[1])) && s[1] != ' ' {
		return s
	}
	return strings.ToLower(s[:1]) + s[1:]
}
