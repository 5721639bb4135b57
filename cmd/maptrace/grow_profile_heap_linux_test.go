package main

import (
	"bufio"
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
	needBPF(t)
	dir := t.TempDir()
	cmd := exec.Command(bpftest.BuildC(t, "../../testdata/workload", "heap"), "1", "3000", "30000")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err = cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	if line, failed := bufio.NewReader(out).ReadString('\n'); failed != nil || line != "ready\n" {
		t.Fatalf("%q, %v", line, failed)
	}
	var files []string
	for i := range 2 {
		file := filepath.Join(dir, fmt.Sprint(i))
		r := maptrace(t, "grow", "--interval", "100ms", "--for", fmt.Sprintf("%ds", 8+2*i), "--pprof", file, "-p", fmt.Sprint(cmd.Process.Pid))
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
