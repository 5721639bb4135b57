//go:build linux

package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/maptrace/maptrace/testdata/tool"
)

// TestWhatIsSaidOfSomeSeeds has a script in maptrace's place. It is not run in parallel:
// what others start meanwhile could keep the script open for writing.
func TestWhatIsSaidOfSomeSeeds(t *testing.T) {
	const copies = "while [ $# -gt 1 ]; do shift; done\ncat copied >\"$1/maps.7\"\n"
	exact := strings.ReplaceAll(right, "PICTURE", "exact")
	type figures struct {
		Programs, Compared, Exact int
		Smaller                   bool // there were runs of programs made smaller
	}
	for _, tt := range []struct {
		name, output, more string
		err                error
		want               figures
	}{
		{"all are right", exact + end, copies, nil, figures{3, 3, 3, false}},
		{"no process comes to its end", end, "", errNothing, figures{3, 0, 0, false}},
		{"no table claims to be right", strings.ReplaceAll(right, "PICTURE", "approximate: lost") + end, copies, errNothing, figures{3, 3, 0, false}},
		{"what cannot have been", strings.ReplaceAll(end, ":0}", ":2}"), "", errFound, figures{1, 0, 0, true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			script := fmt.Sprintf("#!/bin/sh\ncd %q\nwhile [ \"$1\" != --to ]; do shift; done\ncat output >\"$2\"\n%s", dir, tt.more)
			for name, text := range map[string]string{"maptrace": script, "output": tt.output, "copied": copied} {
				if err := tool.WriteProgram(filepath.Join(dir, name), []byte(text)); err != nil {
					t.Fatal(err)
				}
			}
			var out strings.Builder
			f := &fuzzer{maptrace: filepath.Join(dir, "maptrace"), calls: "calls", out: &out}
			if err := f.fuzz(t.Context(), 1, 3, time.Hour, nil); !errors.Is(err, tt.err) {
				t.Errorf("got %v, want %v", err, tt.err)
			}
			text, runs, got := strings.TrimSpace(out.String()), 0, figures{}
			last := text[strings.LastIndex(text, "\n")+1:]
			var s float64
			var seed uint64
			if _, err := fmt.Sscanf(last, "%d programs in %f s, the next seed is %d; in all %d runs, %d processes compared, %d of them said to be right;",
				&got.Programs, &s, &seed, &runs, &got.Compared, &got.Exact); err != nil {
				t.Fatalf("%q: %v", last, err)
			}
			got.Smaller = runs > got.Programs
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}
