// Package manual makes manual pages: one of section 1 for each command, from the
// command and what it prints as its help, and one of section 7 for each topic of the
// manual, so that there is nothing to keep in step by hand.
//
// The pages are written as Markdown, which go-md2man makes into requests of a
// formatter that both groff and mandoc read. (Cobra's own generator does the same with
// its commands, but knows no EXIT STATUS, and no options but those that cobra parses.)
package manual

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Page is one manual page.
type Page struct {
	Name string // of the file, as in "maptrace-trace.1"
	Text string
}

// Topic is a text that belongs to no single command.
type Topic struct {
	Name  string
	Short string // what it is about, in a line
	Text  string // Markdown, whose headings are of the second level
}

// Options are what the commands do not know of themselves.
type Options struct {
	Version string    // of the whole, for the foot of each page
	Date    time.Time // of the last change; its day in UTC is printed
	// Help runs a command's help function and returns what it prints. It is asked of
	// commands whose flags are not cobra's to parse; see parseHelp for their form.
	Help func(*cobra.Command) (string, error)
	// SeeAlso are pages of others, as in "pmap(1)", under the name of the command
	// that has to do with them.
	SeeAlso map[string][]string
	Topics  []Topic
	// Groups are the headings that flags are listed under, in their order, and GroupOf is
	// that of a flag. Without, flags stand under none.
	Groups  []string
	GroupOf func(*pflag.Flag) string
	// Sections are more of the page of a command, by its name: parts of topics, mostly.
	Sections map[string][]Section
}

// Section is a part of a page.
type Section struct {
	Title string
	Text  string // Markdown
}

// manual is what pages have in common.
type manual struct {
	Options
	program string
}

// Pages returns the page of root, of each command that its help lists, but for "help"
// itself, and of each topic, sorted by name. Commands below those are part of their
// page.
func Pages(root *cobra.Command, o Options) ([]Page, error) {
	commands := []*cobra.Command{root}
	for _, c := range root.Commands() {
		if documented(c) {
			commands = append(commands, c)
		}
	}
	general := exitStatus(root.Long)
	if general == nil {
		return nil, fmt.Errorf("manual of %s: its help has no paragraph that begins with %q", root.Name(), exitStatusLabel)
	}
	m := &manual{Options: o, program: root.Name()}
	pages := make([]Page, 0, len(commands)+len(o.Topics))
	for _, c := range commands {
		d := description{Command: c, exits: exitStatus(c.Long)}
		if d.exits == nil {
			d.exits = general
		}
		if err := d.fill(&o); err != nil {
			return nil, fmt.Errorf("manual of %s: %w", c.CommandPath(), err)
		}
		for _, other := range commands {
			if other != c {
				d.seeAlso = append(d.seeAlso, pageName(other)+"(1)")
			}
		}
		slices.Sort(d.seeAlso)
		d.seeAlso = append(append(d.seeAlso, m.mentioned(d.prose)...), o.SeeAlso[c.Name()]...)
		pages = append(pages, Page{Name: pageName(c) + ".1", Text: m.command(&d)})
	}
	for _, t := range o.Topics {
		pages = append(pages, Page{Name: m.program + "-" + t.Name + ".7", Text: m.topic(t)})
	}
	slices.SortFunc(pages, func(a, b Page) int { return cmp.Compare(a.Name, b.Name) })
	return pages, nil
}

func documented(c *cobra.Command) bool { return c.IsAvailableCommand() && c.Name() != "help" }

func pageName(c *cobra.Command) string { return strings.ReplaceAll(c.CommandPath(), " ", "-") }

// description is what a page says.
type description struct {
	*cobra.Command
	synopsis []string
	prose    string
	groups   []optionGroup
	exits    []exit
	seeAlso  []string
}

// optionGroup is options below a heading; the first has none.
type optionGroup struct {
	heading string
	options []option
}

// option is how one option is written, and what it does.
type option struct {
	forms []form
	help  []string // each is a line of its own
}

// form is one way to write an option: what is typed as it stands, as in "--pid" or
// "--top=", and what stands for its value.
type form struct{ literal, value string }

// exit is one exit status.
type exit struct{ code, meaning string }

// fill takes what a command says of itself.
func (d *description) fill(o *Options) error {
	d.InitDefaultHelpFlag()
	d.prose = dropExitStatus(d.Long)
	if !d.DisableFlagParsing {
		d.synopsis = synopsis(d.Command)
		d.groups = flagOptions(d.Command, o)
		return nil
	}
	text, err := o.Help(d.Command)
	if err != nil {
		return fmt.Errorf("help: %w", err)
	}
	h, err := parseHelp(text)
	if err != nil {
		return err
	}
	d.synopsis, d.groups = h.usage, h.groups
	d.prose = strings.TrimSpace(d.prose + "\n\n" + h.prose)
	if h.exits != nil {
		d.exits = h.exits
	}
	return nil
}

// synopsis is how a command is written, as its help has it.
func synopsis(c *cobra.Command) (lines []string) {
	if c.Runnable() {
		lines = append(lines, c.UseLine())
	}
	if c.HasAvailableSubCommands() {
		lines = append(lines, c.CommandPath()+" [command]")
	}
	return lines
}

// flagOptions are the flags of a command, and those it has from above, by their groups.
func flagOptions(c *cobra.Command, opts *Options) (groups []optionGroup) {
	if opts.GroupOf == nil {
		opts = &Options{Groups: []string{""}, GroupOf: func(*pflag.Flag) string { return "" }}
	}
	for _, name := range opts.Groups {
		g := optionGroup{heading: name}
		g.add(c, func(f *pflag.Flag) bool { return opts.GroupOf(f) == name })
		if len(g.options) > 0 {
			groups = append(groups, g)
		}
	}
	if len(groups) == 1 {
		groups[0].heading = "" // which says nothing by itself
	}
	return groups
}

// add adds the flags of a command that are in the group.
func (g *optionGroup) add(c *cobra.Command, in func(*pflag.Flag) bool) {
	add := func(f *pflag.Flag) {
		if f.Hidden || f.Deprecated != "" || !in(f) {
			return
		}
		value, usage := pflag.UnquoteUsage(f)
		if !zero(f.DefValue) {
			usage += " (default " + f.DefValue + ")"
		}
		o := option{help: []string{usage}}
		if f.Shorthand != "" && f.ShorthandDeprecated == "" {
			o.forms = append(o.forms, form{literal: "-" + f.Shorthand})
		}
		if value != "" {
			value = " " + value
		}
		o.forms = append(o.forms, form{"--" + f.Name, value})
		g.options = append(g.options, o)
	}
	c.NonInheritedFlags().VisitAll(add)
	c.InheritedFlags().VisitAll(add)
}

// zero tells whether a flag's default is one that pflag's help leaves out.
func zero(value string) bool {
	return slices.Contains([]string{"", "0", "0s", "false", "[]", "<nil>"}, value)
}

// exitStatusLabel begins the paragraph of a help text that lists what a command
// ends with: a number, a space and its meaning, separated by semicolons.
const exitStatusLabel = "Exit status: "

// exitStatus finds the exit statuses in a help text.
func exitStatus(text string) (list []exit) {
	for p := range strings.SplitSeq(text, "\n\n") {
		items, ok := strings.CutPrefix(strings.Join(strings.Fields(p), " "), exitStatusLabel)
		if !ok {
			continue
		}
		for item := range strings.SplitSeq(strings.TrimSuffix(items, "."), "; ") {
			code, meaning, _ := strings.Cut(item, " ")
			list = append(list, exit{code, meaning})
		}
	}
	return list
}

// dropExitStatus takes the same paragraph out.
func dropExitStatus(text string) string {
	paragraphs := slices.DeleteFunc(strings.Split(text, "\n\n"), func(p string) bool {
		return strings.HasPrefix(strings.TrimSpace(p), exitStatusLabel)
	})
	return strings.Join(paragraphs, "\n\n")
}

// helpText is what parseHelp finds.
type helpText struct {
	usage  []string
	groups []optionGroup
	prose  string
	exits  []exit
}

// parseHelp reads a help text in the form of the procps programs: lines that end in
// a colon head indented blocks, of which "Usage" has usage lines and each other has
// options, one a line, their help behind two spaces or more; lines that are indented
// further go on with the option above. Other lines are prose.
func parseHelp(text string) (h helpText, err error) {
	usage := false
	var prose []string
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		body := strings.TrimSpace(line)
		indent := len(line) - len(strings.TrimLeft(line, " "))
		switch {
		case body == "":
			prose = append(prose, "")
		case indent == 0 && strings.HasSuffix(body, ":"):
			heading := strings.TrimSuffix(body, ":")
			if usage = heading == "Usage"; usage {
				continue
			}
			if heading == "Options" {
				heading = ""
			}
			h.groups = append(h.groups, optionGroup{heading: heading})
		case indent == 0:
			prose = append(prose, body)
		case usage:
			h.usage = append(h.usage, body)
		default:
			if err := h.optionLine(body); err != nil {
				return h, err
			}
		}
	}
	h.prose = strings.Join(prose, "\n")
	h.exits = exitStatus(h.prose)
	h.prose = strings.TrimSpace(dropExitStatus(h.prose))
	if len(h.usage) == 0 || len(h.groups) == 0 {
		return h, errors.New("the help has no usage, or no options")
	}
	return h, nil
}

// optionLine takes an indented line below a heading.
func (h *helpText) optionLine(body string) error {
	if len(h.groups) == 0 {
		return fmt.Errorf("help line %q: no heading stands above", body)
	}
	g := &h.groups[len(h.groups)-1]
	if !strings.HasPrefix(body, "-") {
		if len(g.options) == 0 {
			return fmt.Errorf("help line %q: no option stands above", body)
		}
		o := &g.options[len(g.options)-1]
		o.help = append(o.help, body)
		return nil
	}
	words, help, _ := strings.Cut(body, "  ")
	o := option{help: []string{strings.TrimSpace(help)}}
	for f := range strings.SplitSeq(words, ", ") {
		literal, value, given := strings.Cut(f, "=")
		if given {
			literal += "="
		}
		o.forms = append(o.forms, form{literal, strings.NewReplacer("<", "", ">", "").Replace(value)})
	}
	g.options = append(g.options, o)
	return nil
}
