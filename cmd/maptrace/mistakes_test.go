package main

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// mistakes is a transcript of wrong usage, in sections. A line that begins with a dollar is a
// command, where single quotes keep words together; what follows is all that it prints, on
// standard error, and in brackets its exit status.
const mistakes = "testdata/mistakes.txtar"

func TestMistakesAreToldInTheUsersWords(t *testing.T) {
	t.Parallel()
	file, err := os.ReadFile(mistakes)
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	n := 0
	for line := range strings.Lines(string(file)) {
		command, ok := strings.CutPrefix(line, "$ maptrace ")
		switch {
		case !ok && (strings.HasPrefix(line, "-- ") || line == "\n" || strings.HasPrefix(line, "#")):
			got.WriteString(line)
		case ok:
			n++
			r := inProcess(t, quotedWords(strings.TrimSuffix(command, "\n"))...)
			fmt.Fprintf(&got, "%s%s[%d]\n", line, r.stderr, r.code)
			if r.out != "" || strings.Count(r.stderr, "\n") != 1 {
				t.Errorf("%swants one line on standard error: %q, %q", line, r.out, r.stderr)
			}
			for _, word := range []string{"strconv", "parsing", "invalid argument", "time:", "unknown flag", "%!"} {
				if strings.Contains(r.stderr, word) {
					t.Errorf("%sis answered in the words of Go: %s", line, r.stderr)
				}
			}
		}
	}
	if *update {
		if err := os.WriteFile(mistakes, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(string(file), got.String()); diff != "" {
		t.Errorf("(-want +got, -update writes it anew):\n%s", diff)
	}
	const fewest = 60
	if n < fewest {
		t.Errorf("%d mistakes, want %d", n, fewest)
	}
}

// quotedWords are the words of a command line.
func quotedWords(line string) (words []string) {
	word, begun, quoted := "", false, false
	for _, r := range line + " " {
		switch {
		case r == '\'':
			quoted, begun = !quoted, true
		case r != ' ' || quoted:
			word, begun = word+string(r), true
		case begun:
			words = append(words, word)
			word, begun = "", false
		}
	}
	return words
}
