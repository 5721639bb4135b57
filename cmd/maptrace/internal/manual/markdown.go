package manual

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/cpuguy83/go-md2man/v2/md2man"
	"github.com/spf13/cobra"
)

// page is the Markdown of a page, as go-md2man reads it: a line that begins with a
// percent sign is its title, and headings of the first level are its sections.
type page struct{ strings.Builder }

func (m *manual) newPage(name, section, title, about string) *page {
	p := &page{}
	fmt.Fprintf(p, "%% %q %q %q %q %q\n", strings.ToUpper(name), section, m.Date.UTC().Format(time.DateOnly),
		strings.TrimSpace(m.program+" "+m.Version), title)
	p.section("NAME", name+" - "+about)
	return p
}

// section writes a section, whose text is Markdown already.
func (p *page) section(title, text string) {
	fmt.Fprintf(p, "\n# %s\n\n%s\n", title, strings.TrimRight(text, "\n"))
}

// roff is what is to be printed. The minuses and quotes of go-md2man are those of
// prose, which formatters may print as others: readers copy commands from pages. Its
// empty lines would be printed too, beside the space that paragraphs have.
func (p *page) roff() string {
	var b strings.Builder
	verbatim := false
	for line := range strings.Lines(string(md2man.Render([]byte(p.String())))) {
		switch {
		case line == ".EX\n" || line == ".EE\n":
			verbatim = !verbatim
		case line == "\n" && !verbatim:
			continue
		case line[0] != '.' && line[0] != '\'': // no request of the formatter
			line = literally.Replace(line)
		}
		b.WriteString(line)
	}
	return b.String()
}

// literally makes characters of text that would be printed as others literal. What is
// escaped already stays.
var literally = strings.NewReplacer(
	`\\`, `\e`, `\-`, `\-`, `-`, `\-`, `'`, `\(aq`, "`", `\(ga`, `^`, `\(ha`, `~`, `\(ti`)

// command is the page of a command.
func (m *manual) command(d *description) string {
	p := m.newPage(pageName(d.Command), "1", "User Commands", escape(lowerFirst(d.Short)))
	lines := make([]string, len(d.synopsis))
	for i, s := range d.synopsis {
		lines[i] = usageLine(s, d.CommandPath())
	}
	p.section("SYNOPSIS", strings.Join(lines, "  \n"))
	if d.prose == "" {
		d.prose = d.Short + "."
	}
	p.section("DESCRIPTION", prose(d.prose))
	if d.HasAvailableSubCommands() {
		p.section("COMMANDS", commands(d.Command))
	}
	if !d.HasParent() && len(m.Topics) > 0 {
		var list terms
		for _, t := range m.Topics {
			list.add(bold(t.Name), escape(t.Short))
		}
		p.section("TOPICS", "Each is a page of its own, "+reference(m.topicPage("TOPIC"))+".\n\n"+list.String())
	}
	var options strings.Builder
	for _, g := range d.groups {
		if g.heading != "" {
			fmt.Fprintf(&options, "\n## %s\n\n", g.heading)
		}
		options.WriteString(optionTerms(g.options))
	}
	p.section("OPTIONS", strings.TrimLeft(options.String(), "\n"))
	var status terms
	for _, e := range d.exits {
		status.add(bold(e.code), text(e.meaning))
	}
	p.section("EXIT STATUS", status.String())
	if d.Example != "" {
		p.section("EXAMPLES", examples(d.Example))
	}
	for _, s := range m.Sections[d.Name()] {
		p.section(strings.ToUpper(s.Title), s.Text)
	}
	p.section("SEE ALSO", references(d.seeAlso))
	return p.roff()
}

// topic is the page of a topic, whose headings are below its description.
func (m *manual) topic(t Topic) string {
	p := m.newPage(m.program+"-"+t.Name, "7", m.program+" manual", escape(t.Short))
	var body strings.Builder
	verbatim := false
	for line := range strings.Lines(t.Text) {
		if strings.HasPrefix(line, "```") {
			verbatim = !verbatim
		}
		if strings.HasPrefix(line, "## ") && !verbatim {
			line = "#" + line
		}
		body.WriteString(line)
	}
	p.section("DESCRIPTION", body.String())
	p.section("SEE ALSO", references(append([]string{m.program + "(1)"}, m.mentioned(t.Text)...)))
	return p.roff()
}

// mentioned are the pages of the topics that a text says help has, in quotes of any
// kind.
func (m *manual) mentioned(text string) (pages []string) {
	for _, t := range m.Topics {
		if regexp.MustCompile("[\"`]" + regexp.QuoteMeta(m.program+" help "+t.Name) + "[\"`]").MatchString(text) {
			pages = append(pages, m.topicPage(t.Name))
		}
	}
	return pages
}

func (m *manual) topicPage(name string) string { return m.program + "-" + name + "(7)" }

// terms is a list of terms, each with what is said about it.
type terms struct{ strings.Builder }

func (l *terms) add(term, about string) { fmt.Fprintf(l, "%s\n: %s\n\n", term, about) }

// commands lists what is below a command, with the pages of what is below the root.
func commands(c *cobra.Command) string {
	var list terms
	for _, sub := range c.Commands() {
		switch {
		case !documented(sub):
		case c.HasParent():
			list.add(bold(sub.Name()), escape(sub.Short))
		default:
			list.add(bold(sub.Name()), escape(sub.Short)+"; see "+reference(pageName(sub)+"(1)")+".")
		}
	}
	return list.String()
}

// prose escapes paragraphs, but for those that are indented, which are code.
func prose(s string) string {
	var b strings.Builder
	for line := range strings.Lines(s) {
		if strings.HasPrefix(line, "    ") || strings.HasPrefix(line, "\t") {
			b.WriteString(line)
		} else {
			b.WriteString(text(line))
		}
	}
	return b.String()
}

func optionTerms(options []option) string {
	var list terms
	for _, o := range options {
		forms := make([]string, len(o.forms))
		for i, f := range o.forms {
			name := strings.TrimSuffix(f.literal, "=")
			forms[i] = bold(name) + f.literal[len(name):]
			if value := strings.TrimLeft(f.value, " "); value != "" {
				forms[i] += f.value[:len(f.value)-len(value)] + italic(value)
			}
		}
		help := make([]string, len(o.help))
		for i, h := range o.help {
			help[i] = text(h)
		}
		list.add(strings.Join(forms, ", "), strings.Join(help, "  \n  "))
	}
	return list.String()
}

// examples writes command lines, each with what is said about it two spaces or
// more behind it.
func examples(s string) string {
	var list terms
	for line := range strings.Lines(s) {
		command, about, _ := strings.Cut(strings.TrimSpace(line), "  ")
		switch about = strings.TrimSpace(about); {
		case command == "":
		case about != "":
			list.add(bold(command), text(about))
		default:
			fmt.Fprintf(&list, "%s\n\n", bold(command))
		}
	}
	return list.String()
}

// reference names another page.
func reference(page string) string {
	name, section, _ := strings.Cut(page, "(")
	return bold(name) + "(" + section
}

func references(pages []string) string {
	list := make([]string, len(pages))
	for i, p := range pages {
		list[i] = reference(p)
	}
	return strings.Join(list, ",\n")
}

// usageLine sets the command and options in bold and what stands for something
// else in italics.
func usageLine(s, command string) string {
	rest, ok := strings.CutPrefix(s, command)
	if !ok {
		return escape(s)
	}
	var b strings.Builder
	b.WriteString(bold(command))
	last := 0
	for _, m := range usageWord.FindAllStringIndex(rest, -1) {
		b.WriteString(escape(rest[last:m[0]]))
		if word := rest[m[0]:m[1]]; word[0] == '-' {
			b.WriteString(bold(word))
		} else {
			b.WriteString(italic(word))
		}
		last = m[1]
	}
	return b.String() + escape(rest[last:])
}

var usageWord = regexp.MustCompile(`-{1,2}[a-z]+|--|[A-Z]+…?|flags|options|command`)

// optionWord is an option in prose: at the beginning, or after what is no part of
// a word.
var optionWord = regexp.MustCompile(`(^|[\s'"(\[{|])(--?[A-Za-z][A-Za-z0-9-]*)`)

// text escapes prose and sets options in bold.
func text(s string) string {
	var b strings.Builder
	last := 0
	for _, m := range optionWord.FindAllStringSubmatchIndex(s, -1) {
		b.WriteString(escape(s[last:m[4]]))
		b.WriteString(bold(s[m[4]:m[5]]))
		last = m[5]
	}
	return b.String() + escape(s[last:])
}

func bold(s string) string   { return "**" + escape(s) + "**" }
func italic(s string) string { return "*" + escape(s) + "*" }

// escape makes text of characters that mean something in Markdown.
func escape(s string) string { return special.Replace(s) }

var special = strings.NewReplacer(
	`\`, `\\`, "`", "\\`", `*`, `\*`, `_`, `\_`, `[`, `\[`, `]`, `\]`, `<`, `\<`, `>`, `\>`, `|`, `\|`, `&`, `\&`)

func letter(r rune) bool { return r|0x20 >= 'a' && r|0x20 <= 'z' }

// lowerFirst is for what follows the dash in NAME, where sentences begin small.
func lowerFirst(s string) string {
	if len(s) < 2 || !letter(rune(s[1])) && s[1] != ' ' {
		return s
	}
	return strings.ToLower(s[:1]) + s[1:]
}
