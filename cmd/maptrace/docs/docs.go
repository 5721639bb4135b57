// Package docs holds the topics of the manual: a Markdown file each, which is read
// on the web as it is, printed by "maptrace help TOPIC", and made into a manual
// page of section 7.
package docs

import (
	"embed"
	"fmt"
	"io/fs"
	"regexp"
	"strings"
	"sync"
)

//go:embed *.md
var files embed.FS

// Topic is one text of the manual.
type Topic struct {
	Name  string
	Short string // what it is about, in a line
	Text  string // what follows the title, in Markdown without links
}

// Topics returns all of them, sorted by name.
func Topics() []Topic {
	entries, err := fs.ReadDir(files, ".") // sorted
	if err != nil {
		panic(err) // the files are in the program
	}
	list := make([]Topic, 0, len(entries))
	for _, e := range entries {
		data, err := files.ReadFile(e.Name())
		if err != nil {
			panic(err) // likewise
		}
		t, err := parse(e.Name(), string(data))
		if err != nil {
			panic(err) // a test parses them all
		}
		list = append(list, t)
	}
	return list
}

// parse takes a file apart. Its first line is "# NAME: SHORT", and its name NAME.md.
func parse(file, text string) (Topic, error) {
	head, body, _ := strings.Cut(text, "\n")
	title, isTitle := strings.CutPrefix(head, "# ")
	name, short, ok := strings.Cut(title, ": ")
	if !isTitle || !ok || name+".md" != file {
		return Topic{}, fmt.Errorf("topic %s: the first line is %q, not \"# NAME: SHORT\"", file, head)
	}
	return Topic{Name: name, Short: short, Text: unlink(strings.Trim(body, "\n") + "\n")}, nil
}

// Section is what stands below a heading of the second level.
func (t Topic) Section(heading string) (text string, ok bool) {
	_, text, ok = strings.Cut(t.Text, "## "+heading+"\n\n")
	text, _, _ = strings.Cut(text, "\n## ")
	return strings.TrimRight(text, "\n") + "\n", ok
}

// link is a link to another file of the source. Its text says enough where there is
// nothing to click on.
var link = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`\[([^\]]+)\]\([^):]+\)`) })

func unlink(text string) string { return link().ReplaceAllString(text, "$1") }
