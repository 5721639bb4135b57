package main

import (
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"github.com/maptrace/maptrace/cmd/maptrace/docs"
)

func TestHelpKnowsCommandsAndTopics(t *testing.T) {
	t.Parallel()
	grow := inProcess(t, "grow", "--help").out
	pmap := inProcess(t, "pmap", "--help").out
	root := inProcess(t, "--help").out
	tests := []struct {
		name string
		args []string
		want result
	}{
		{"a command", []string{"grow"}, result{out: grow}},
		{"a command whose help is its own", []string{"pmap"}, result{out: pmap}},
		{"a command below a command", []string{"completion", "zsh"}, result{out: inProcess(t, "completion", "zsh", "--help").out}},
		{"nothing", nil, result{out: root}},
		{"nothing near", []string{"zzz"}, result{exitUsage, "", "maptrace: no command or topic is called \"zzz\"; see 'maptrace help'\n"}},
		{"nearly a topic", []string{"Accurcy"}, result{exitUsage, "", "maptrace: no command or topic is called \"Accurcy\"; did you mean accuracy?\n"}},
		{"what several begin with", []string{"la"}, result{exitUsage, "", "maptrace: no command or topic is called \"la\"; did you mean lat or latency?\n"}},
		{"a word too many", []string{"lat", "json"}, result{exitUsage, "", "maptrace: no command or topic is called \"lat json\"; did you mean lat or latency?\n"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := inProcess(t, append([]string{"help"}, tt.args...)...)
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(result{})); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
	completions := inProcess(t, "__complete", "help", "").out
	for _, topic := range docs.Topics() {
		if got := inProcess(t, "help", topic.Name); got.code != exitOK || got.out != topic.Text {
			t.Errorf("help %s: status %d, %q", topic.Name, got.code, got.out)
		}
		if line := "  " + topic.Name + " "; !strings.Contains(root, line) || !strings.Contains(root, " "+topic.Short+"\n") {
			t.Errorf("the help of maptrace does not list %s", topic.Name)
		}
		if !strings.Contains(completions, topic.Name+"\t"+topic.Short+"\n") {
			t.Errorf("%s does not complete", topic.Name)
		}
	}
	if !strings.Contains(completions, "\ngrow\t") && !strings.HasPrefix(completions, "grow\t") {
		t.Errorf("commands do not complete:\n%s", completions)
	}
	if below := inProcess(t, "__complete", "help", "completion", "").out; !strings.Contains(below, "zsh\t") || strings.Contains(below, "accuracy") {
		t.Errorf("below a command complete:\n%s", below)
	}
}

func TestATopicIsNotCalledAsACommandIs(t *testing.T) {
	t.Parallel()
	for _, c := range newRoot(streams{}).Commands() {
		if topic, ok := findTopic([]string{c.Name()}); ok {
			t.Errorf("help %s would be about the command, or about the topic", topic.Name)
		}
	}
}

func TestCommandsSayWhichTopicsAreAboutThem(t *testing.T) {
	t.Parallel()
	quoted := regexp.MustCompile(`"maptrace help ([^"]*)"`)
	for _, c := range newRoot(streams{}).Commands() {
		found := quoted.FindAllStringSubmatch(c.Long, -1)
		for _, m := range found {
			if _, ok := findTopic(m[1:]); !ok {
				t.Errorf("%s: there is no topic %s", c.Name(), m[1])
			}
		}
		switch c.Name() {
		case "trace", "grow", "lat", "pmap", "explain", "doctor":
			if len(found) == 0 {
				t.Errorf("%s names no topic", c.Name())
			}
		}
	}
}

// commandLines are the words of every command that is shown.
func commandLines(c *cobra.Command) (all [][]string) {
	all = append(all, strings.Fields(c.CommandPath())[1:])
	for _, sub := range c.Commands() {
		if !sub.Hidden {
			all = append(all, commandLines(sub)...)
		}
	}
	return all
}

func TestHelpFitsIntoEightyColumns(t *testing.T) {
	t.Parallel()
	check := func(what, text string) {
		for line := range strings.Lines(text) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > helpColumns {
				t.Errorf("%s: %d columns: %s", what, n, line)
			}
		}
	}
	for _, words := range commandLines(newRoot(streams{})) {
		r := inProcess(t, append(words, "--help")...)
		if r.code != exitOK || len(r.out) < 100 {
			t.Errorf("%q: exit code %d, %q", words, r.code, r.out)
		}
		check(strings.Join(words, " "), r.out)
	}
}

func TestHelpTellsWhichCommandToTake(t *testing.T) {
	t.Parallel()
	root := newRoot(streams{})
	text := inProcess(t, "--help").out
	_, section, ok := strings.Cut(text, "\nWhich command?\n\n")
	section, _, _ = strings.Cut(section, "\n\n")
	lines := strings.Split(section, "\n")
	if !ok || len(lines) < 5 || len(lines) > 8 {
		t.Fatalf("%d lines:\n%s", len(lines), text)
	}
	for _, line := range lines {
		_, command, ok := strings.Cut(line, "   maptrace ")
		if wrong := wrongCommands(root, "`maptrace "+command+"`"); !ok || len(wrong) > 0 {
			t.Errorf("%q: %q", line, wrong)
		}
	}
}

// TestFlagsAreInGroups wants every flag of the commands with many to have its place.
func TestFlagsAreInGroups(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"trace", "grow", "lat"} {
		help := inProcess(t, name, "--help").out
		last := -1
		for _, g := range []string{"Usage", "Examples", groupTarget, groupWhat, groupOutput, groupCost} {
			at := strings.Index(help, "\n"+g+":\n")
			if at <= last {
				t.Errorf("%s: %s is not where it belongs:\n%s", name, g, help)
			}
			last = at
		}
		if _, others, _ := strings.Cut(help, "\n"+groupOther+":\n"); strings.Count(others, "--") != 1 || !strings.Contains(others, "--help") {
			t.Errorf("%s: flags without a group:\n%s", name, others)
		}
	}
}
