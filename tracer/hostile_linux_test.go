package tracer

import (
	"context"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/maptrace/maptrace/bpf/bpftest"
)

// hostile runs one case of the program that tries to have something believed that is not
// so, and compares what is believed of it and its children with maps.
func hostile(t *testing.T, program, name string) {
	t.Helper()
	r := newTraced(t, LiveOptions{}, 20*time.Millisecond)
	ctx, still := r.untilSaid()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	c := r.command([]string{program, name, t.TempDir()}, still.in, still.out)
	defer func() {
		still.release()
		if code, err := c.Wait(); err != nil || code != 0 {
			t.Errorf("exit status %d, %v", code, err)
		}
	}()
	rep := r.run(ctx)
	var line string
	select {
	case line = <-still.said:
	default:
	}
	if why, is := strings.CutPrefix(line, "unsupported: "); is {
		t.Skip(strings.TrimSpace(why))
	}
	if line != "done\n" {
		t.Errorf("it said %q", line)
	}
	if s := rep.Stats; s.Lost+s.Missed+s.Drift > 0 {
		t.Errorf("lost %d, missed %d, drift %d: %s", s.Lost, s.Missed, s.Drift, strings.Join(r.find, "\n"))
	}
	compared := 0
	for _, sp := range rep.Spaces {
		if pid := sp.Process.PID; alive(pid) {
			r.mustEqualMaps(rep, pid)
			r.mustHaveNames(sp.Process.Space, pid)
			compared++
		}
	}
	if compared == 0 {
		t.Error("there was nothing to compare")
	}
	t.Logf("%s: %d processes, %d others, %d violations, %d re-reads, %d audits: %v",
		name, compared, rep.Stats.Others, rep.Stats.Violations, rep.Stats.Rereads, rep.Stats.Audits, rep.Picture)
}

// mustHaveNames compares the names of files.
func (r *traced) mustHaveNames(space uint64, pid int) {
	r.t.Helper()
	for _, row := range mapsOf(r.t, pid) {
		e, ok := r.tr.Tree(space).At(row.Start)
		if dir, renamed := strings.CutSuffix(row.Name, "/after"); renamed && (e.Name == dir+"/before" || e.Name == "before") {
			continue // the name that it was mapped by, of which there may be no more to read
		}
		if ok && row.Inode != 0 && e.Name != row.Name {
			r.t.Errorf("%v is %q, and the kernel calls it %q", row.Range, e.Name, row.Name)
		}
	}
}

func TestNobodyIsMisled(t *testing.T) {
	program := bpftest.BuildC(t, workloads, "hostile")
	names, err := exec.Command(program).Output()
	if err != nil {
		t.Fatal(err)
	}
	for name := range strings.FieldsSeq(string(names)) {
		t.Run(name, func(t *testing.T) { hostile(t, program, name) })
	}
}
