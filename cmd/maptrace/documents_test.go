package main

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// documents are all Markdown files of the source, by their paths in it.
func documents(t *testing.T) map[string]string {
	t.Helper()
	const top = "../.."
	found := map[string]string{}
	err := filepath.WalkDir(top, func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir() && (e.Name() == ".git" || path == filepath.Join(top, "dist")):
			return filepath.SkipDir
		case e.IsDir() || filepath.Ext(path) != ".md":
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(top, path)
		found[name] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if found["README.md"] == "" || found["cmd/maptrace/docs/accuracy.md"] == "" {
		t.Fatalf("documents %q", slices.Sorted(maps.Keys(found)))
	}
	return found
}

func TestTheReadmeIsShort(t *testing.T) {
	t.Parallel()
	if n := len(documents(t)["README.md"]); n > 10_000 {
		t.Errorf("README.md: %d bytes, more than 10,000: what it says belongs into a topic", n)
	}
}

var (
	markdownLink = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading      = regexp.MustCompile(`(?m)^#+ (.*)$`)
	fenced       = regexp.MustCompile("(?ms)^```[a-z]*\n(.*?)^```$")
	codeSpan     = regexp.MustCompile("`([^`]+)`")
)

// anchors are what a web page of a document can be entered at.
func anchors(text string) (list []string) {
	for _, m := range heading.FindAllStringSubmatch(fenced.ReplaceAllString(text, ""), -1) {
		plain := regexp.MustCompile(`[^\pL\pN _-]`).ReplaceAllString(strings.ToLower(m[1]), "")
		list = append(list, strings.ReplaceAll(plain, " ", "-"))
	}
	return list
}

// brokenLinks are those links of a document that lead to nothing in the source.
func brokenLinks(documents map[string]string, name string) (broken []string) {
	for _, m := range markdownLink.FindAllStringSubmatch(fenced.ReplaceAllString(documents[name], ""), -1) {
		if strings.Contains(m[1], "://") {
			continue
		}
		path, anchor, _ := strings.Cut(m[1], "#")
		target := name
		if path != "" {
			target = filepath.Join(filepath.Dir(name), path)
		}
		if _, err := os.Stat(filepath.Join("../..", target)); err != nil && documents[target] == "" {
			broken = append(broken, m[1])
		} else if anchor != "" && !slices.Contains(anchors(documents[target]), anchor) {
			broken = append(broken, m[1])
		}
	}
	return broken
}

func TestLinksOfDocumentsLeadSomewhere(t *testing.T) {
	t.Parallel()
	all := documents(t)
	for name := range all {
		for _, link := range brokenLinks(all, name) {
			t.Errorf("%s: nothing is at %s", name, link)
		}
	}
	bad := map[string]string{
		"README.md":      "[a](docs/x.md) [b](docs/x.md#the-end) [c](#top) [d](docs/y.md) [e](docs/x.md#end) [f](https://e.org)\n# Top\n",
		"docs/x.md":      "# x: a topic\n\n## The end\n",
		"docs/nested.md": "[up](../README.md) [out](../nowhere.md)",
	}
	if got := fmt.Sprint(brokenLinks(bad, "README.md"), brokenLinks(bad, "docs/nested.md")); got != "[docs/y.md docs/x.md#end] [../nowhere.md]" {
		t.Errorf("broken links %s", got)
	}
}

// foreign are options of other programs that documents name, and of whom.
var foreign = map[string]string{
	"--cap-add": "docker", "--pid": "docker", "--privileged": "docker", "--rm": "docker", "--target": "kubectl debug",
	"--strip-components": "tar", "--perf-basic-prof": "node", "--seccomp-bpf": "strace",
}

var longOption = regexp.MustCompile(`(?:^|[\s(\[{|"'])(--[a-z][a-z-]*)`)

// flagsOf are the long options of a command, and with nil those of all.
func flagsOf(root, cmd *cobra.Command) map[string]bool {
	known := map[string]bool{}
	for _, c := range append(root.Commands(), root) {
		if cmd != nil && c != cmd {
			continue
		}
		c.InitDefaultHelpFlag()
		c.Flags().VisitAll(func(f *pflag.Flag) { known["--"+f.Name] = true })
		if c.Name() == "pmap" {
			for _, f := range pmapFlags {
				known["--"+f.Long] = true
			}
		}
	}
	return known
}

// wrongCommands are what is said in code of a document about our commands, options
// and topics, and is not so.
func wrongCommands(root *cobra.Command, text string) (wrong []string) {
	var code []string
	for _, m := range fenced.FindAllStringSubmatch(text, -1) {
		code = append(code, strings.Split(m[1], "\n")...)
	}
	for _, m := range codeSpan.FindAllStringSubmatch(fenced.ReplaceAllString(text, ""), -1) {
		code = append(code, m[1])
	}
	everything := flagsOf(root, nil)
	for _, line := range code {
		for _, m := range longOption.FindAllStringSubmatch(line, -1) {
			if !everything[m[1]] && foreign[m[1]] == "" {
				wrong = append(wrong, m[1])
			}
		}
		words := strings.Fields(strings.TrimPrefix(strings.TrimPrefix(line, "$ "), "sudo "))
		if len(words) < 2 || words[0] != "maptrace" || !regexp.MustCompile(`^[a-z]+$`).MatchString(words[1]) {
			continue // nothing of ours, or of pmap without its name
		}
		cmd, _, err := root.Find(words[1:2])
		if err != nil || cmd == root {
			wrong = append(wrong, "maptrace "+words[1])
			continue
		}
		if cmd.Name() == "help" && len(words) > 2 && words[2] != "TOPIC" {
			_, topic := findTopic(words[2:3])
			if _, rest, err := root.Find(words[2:3]); !topic && (err != nil || len(rest) > 0) {
				wrong = append(wrong, strings.Join(words[:3], " "))
			}
		}
		ours, _, _ := strings.Cut(strings.Join(words, " ")+" ", " -- ")
		known := flagsOf(root, cmd)
		for _, m := range longOption.FindAllStringSubmatch(ours, -1) {
			if !known[m[1]] {
				wrong = append(wrong, "maptrace "+cmd.Name()+" "+m[1])
			}
		}
	}
	return wrong
}

func TestCommandsOptionsAndTopicsOfDocumentsExist(t *testing.T) {
	t.Parallel()
	root := newRoot(streams{})
	all := documents(t)
	for name, text := range all {
		for _, w := range wrongCommands(root, text) {
			t.Errorf("%s: there is no %s", name, w)
		}
	}
	for option, program := range foreign {
		if !slices.ContainsFunc(slices.Collect(maps.Values(all)), func(text string) bool { return strings.Contains(text, option) }) {
			t.Errorf("no document names %s of %s any more", option, program)
		}
	}
	const bad = "`maptrace grows` `--no-such` `maptrace lat --fail-on x -- ./a --no-b` `maptrace help accurate`\n" +
		"```\n$ sudo maptrace grow --slow 1 -p 1\nmaptrace help grow\nmaptrace -x 1\nmaptrace trace -- a --verify\n```\n"
	want := []string{"maptrace grow --slow", "maptrace grows", "--no-such", "--no-b", "maptrace lat --fail-on", "maptrace help accurate"}
	if got := wrongCommands(root, bad); !slices.Equal(got, want) {
		t.Errorf("wrong are %q, want %q", got, want)
	}
}

func TestTargetsOfMakeThatDocumentsNameExist(t *testing.T) {
	t.Parallel()
	makefile, err := os.ReadFile("../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for name, text := range documents(t) {
		for _, m := range regexp.MustCompile("(?m)(?:`|^|&& sudo |sudo )make ((?:[a-z-]+ ?)+)").FindAllStringSubmatch(text, -1) {
			for target := range strings.FieldsSeq(m[1]) {
				n++
				if !regexp.MustCompile(`(?m)^` + target + `:`).Match(makefile) {
					t.Errorf("%s: there is no target %s", name, target)
				}
			}
		}
	}
	if n < 20 {
		t.Errorf("only %d targets are named", n)
	}
}

// Overhead is told in three places, each with more of it: none may contradict.
func TestFiguresOfOverheadAreThoseOfTheBenchmark(t *testing.T) {
	t.Parallel()
	all := documents(t)
	for _, name := range []string{"README.md", "cmd/maptrace/docs/overhead.md"} {
		_, text, _ := strings.Cut(all[name], "verhead")
		rows := regexp.MustCompile(`(?m)^\| ([^|]*) \|.* (\S+ \[\S+\]) \|`).FindAllStringSubmatch(text, -1)
		if len(rows) < 5 {
			t.Errorf("%s: %d rows of figures", name, len(rows))
		}
		bench := strings.ReplaceAll(all["testdata/bench/README.md"], "*", "")
		for _, row := range rows {
			if !regexp.MustCompile(`(?m)^\| ` + regexp.QuoteMeta(row[1]) + ` \| ` + regexp.QuoteMeta(row[2]) + ` \|`).MatchString(bench) {
				t.Errorf("%s: %s has another figure than %s in testdata/bench", name, row[1], row[2])
			}
		}
	}
}
