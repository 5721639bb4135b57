package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/pprof/profile"

	"github.com/maptrace/maptrace/bpf/bpftest"
)

// sums are the values of one kind of a profile by function: of the samples whose stack leads
// through it.
func sums(t *testing.T, p *profile.Profile, kind string) func(function string) int64 {
	t.Helper()
	at := slices.IndexFunc(p.SampleType, func(v *profile.ValueType) bool { return v.Type == kind && v.Unit == "bytes" })
	if at < 0 {
		t.Fatalf("there is no %s in %v", kind, p.SampleType)
	}
	return func(function string) (sum int64) {
		for _, s := range p.Sample {
			if slices.ContainsFunc(s.Location, func(l *profile.Location) bool {
				return slices.ContainsFunc(l.Line, func(l profile.Line) bool { return l.Function.Name == function })
			}) {
				sum += s.Value[at]
			}
		}
		return sum
	}
}

// TestAProfileHasWhatEachStackAllocatesAndKeepsOnAHeap watches a program twice, of which
// keep() keeps all, and churn() frees ten times as much, and compares both profiles.
func TestAProfileHasWhatEachStackAllocatesAndKeepsOnAHeap(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	h := startHeap(t, bpftest.BuildC(t, "../../testdata/workload", "heap"), 3000, 30000)
	var files []string
	for i := range 2 {
		file := filepath.Join(dir, fmt.Sprint(i))
		r := maptrace(t, "grow", "--interval", "100ms", "--for", fmt.Sprintf("%ds", 8+2*i), "--pprof", file, "-p", h.pid())
		if r.code != exitOK {
			t.Fatalf("exit code %d, standard error %q", r.code, r.stderr)
		}
		files = append(files, file)
		f, failed := os.Open(file)
		if failed != nil {
			t.Fatal(failed)
		}
		p, failed := profile.Parse(f)
		f.Close()
		if failed != nil {
			t.Fatal(failed)
		}
		allocated, kept := sums(t, p, "heap_alloc_space"), sums(t, p, "kept_space")
		if allocated("churn") <= allocated("keep") || kept("keep") <= kept("churn") || kept("keep") > allocated("keep") {
			t.Errorf("keep keeps %d of %d, churn %d of %d", kept("keep"), allocated("keep"), kept("churn"), allocated("churn"))
		}
		if !slices.ContainsFunc(p.Comments, func(c string) bool { return strings.Contains(c, "kept_space") && strings.Contains(c, "estimated") }) {
			t.Errorf("nothing says that it is estimated: %q", p.Comments)
		}
	}
	text, err := exec.Command("go", "tool", "pprof", "-top", "-sample_index=kept_space", "-base", files[0], files[1]).Output()
	if err != nil || !strings.Contains(string(text), "Type: kept_space") || !strings.Contains(string(text), " keep\n") {
		t.Errorf("pprof: %v\n%s", err, text)
	}
}
