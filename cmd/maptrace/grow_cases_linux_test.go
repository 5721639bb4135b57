package main

import (
	"encoding/json"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/maptrace/maptrace/bpf/bpftest"
	"github.com/maptrace/maptrace/cmd/maptrace/internal/render"
)

// TestGrowthThatNoMappingShows watches programs whose memory grows, and whose mappings are as
// large and as resident as ever.
func TestGrowthThatNoMappingShows(t *testing.T) {
	t.Parallel()
	path := bpftest.BuildC(t, "../../testdata/cases", "cases")
	for _, c := range []struct {
		what     string // the program's argument
		verdicts string // of what must be found, if so
		kind     string
		subject  string // of it, its beginning
		rate     float64
		blamed   string // of it; "" for nobody
		toucher  string // who is named first as touching it
	}{
		{what: "tables", verdicts: "grows", kind: "page tables", subject: "page tables, of [ anon ]", toucher: "sparse_set"},
		{what: "memfd", verdicts: "leaks", kind: "held memory", subject: "memfd frame-*, open and not mapped", rate: 2.5, blamed: "send_frame"},
		{what: "written", verdicts: "leaks", kind: "held memory", subject: "memfd frame-*, open and not mapped", rate: 2.5},
		{what: "window", verdicts: "leaks", kind: "held memory", subject: "memfd frame-0, open and not mapped", rate: 2.5, blamed: "window"},
		{what: "sysv", verdicts: "leaks", kind: "held memory", subject: "System V segments, not attached", rate: 2.5, blamed: "post"},
		{what: "log", verdicts: "leaks", kind: "held memory", subject: "/dev/shm/maptrace-case-", rate: 2.5},
		{what: "update", verdicts: "grows", kind: "copied pages", subject: "pages copied after a fork, of [ anon ]", rate: 3.2, toucher: "update"},
		{what: "serve", verdicts: "grows", kind: "copied pages", subject: "pages copied after a fork, of [ anon ]", rate: 3.2, toucher: "update"},
		{what: "reaped"},
		{what: "collapse", verdicts: "grows", kind: "anon", subject: "[ anon ] at ", rate: 20},
	} {
		t.Run(c.what, func(t *testing.T) {
			t.Parallel()
			needBPF(t)
			needRoot(t)
			h := startHelperWith(t, "", func(cmd *exec.Cmd) { cmd.Path, cmd.Args = path, []string{path, c.what} })
			r := succeed(t, maptrace(t, "grow", "--for", "20s", "-o", "json", "-p", h.pid()))
			if err := h.in.Close(); err != nil {
				t.Fatal(err)
			}
			if lived := h.result(); lived.code != 0 {
				t.Errorf("the program: %+v", lived)
			}
			var all []render.FindingObject
			for line := range strings.Lines(r.out) {
				var f render.FindingObject
				if err := json.Unmarshal([]byte(line), &f); err != nil {
					t.Fatalf("%v: %s", err, line)
				}
				if f.Event == "finding" && (f.Verdict == "leaks" || f.Verdict == "grows" || f.Verdict == "retained") {
					all = append(all, f)
				}
			}
			at := slices.IndexFunc(all, func(f render.FindingObject) bool { return f.Kind == c.kind })
			if at < 0 && c.kind != "" {
				t.Errorf("%s is not found to grow", c.kind)
			}
			for i := range all {
				f := &all[i]
				t.Log(f.Sentence)
				switch {
				case i != at:
					t.Error("that does not grow")
					continue
				case !strings.Contains(c.verdicts, f.Verdict), !strings.HasPrefix(f.Subject, c.subject):
					t.Errorf("%s of %q, want %s of %q", f.Verdict, f.Subject, c.verdicts, c.subject)
				case (c.blamed == "") != (f.Blamed == ""), !strings.HasPrefix(f.Blamed, c.blamed):
					t.Errorf("%q is blamed, want %q", f.Blamed, c.blamed)
				}
				if c.toucher != "" && (len(f.Touched) == 0 || len(f.Touched[0].Frames) == 0 || !strings.HasPrefix(f.Touched[0].Frames[0], c.toucher)) {
					t.Errorf("touched by %+v, want %s", f.Touched, c.toucher)
				}
				// A program that is not given the CPU is slower, never faster.
				const mib = 1 << 20
				if got := f.Slope / mib; c.rate > 0 && (got < c.rate/3 || got > 1.2*c.rate) {
					t.Errorf("%.1f MiB/s, want %.1f", got, c.rate)
				}
			}
		})
	}
}
