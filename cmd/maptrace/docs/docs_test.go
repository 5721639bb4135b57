package docs

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func TestATopicIsAFileWithItsNameAndALine(t *testing.T) {
	t.Parallel()
	got, err := parse("walk.md", "# walk: how to walk: slowly\n\nSee [`help run`](run.md), [here](../x/README.md#a)\nand [there](https://example.org).\n")
	want := Topic{
		Name: "walk", Short: "how to walk: slowly",
		Text: "See `help run`, here\nand [there](https://example.org).\n",
	}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v; -want +got:\n%s", err, diff)
	}
	for _, bad := range []string{"", "#", "walk: a", "## walk: a", "# run: a", "# walk"} {
		if _, err := parse("walk.md", bad); err == nil {
			t.Errorf("%q is taken for a topic", bad)
		}
	}
}

func TestTopicsFitATerminal(t *testing.T) {
	t.Parallel()
	topics := Topics()
	if !slices.IsSortedFunc(topics, func(a, b Topic) int { return strings.Compare(a.Name, b.Name) }) || len(topics) == 0 {
		t.Errorf("%d topics, or not sorted", len(topics))
	}
	for _, topic := range topics {
		if n := utf8.RuneCountInString(topic.Name + topic.Short); n > 80-17 {
			t.Errorf("%s: its line in the list of topics is too long by %d", topic.Name, n-(80-17))
		}
		verbatim := false
		for line := range strings.Lines(topic.Text) {
			line = strings.TrimRight(line, "\n")
			if strings.HasPrefix(line, "```") {
				verbatim = !verbatim
			}
			// What programs print there, too: it was printed on such a terminal, or is cut
			// or broken, which is said.
			if n := utf8.RuneCountInString(line); n > 80 {
				t.Errorf("%s: %d columns: %s", topic.Name, n, line)
			}
		}
		if verbatim {
			t.Errorf("%s: a block of code does not end", topic.Name)
		}
	}
}
