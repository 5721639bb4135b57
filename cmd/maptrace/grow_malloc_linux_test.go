package main

import (
	"encoding/json"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/maptrace/maptrace/bpf/bpftest"
	"github.com/maptrace/maptrace/cmd/maptrace/internal/render"
	"github.com/maptrace/maptrace/testdata/leaks"
)

// TestGrowTellsALeakFromWhatMallocRetains watches heaps that grow equally fast: of lines that
// are kept, and of what malloc keeps of lines that were given back.
func TestGrowTellsALeakFromWhatMallocRetains(t *testing.T) {
	t.Parallel()
	needBPF(t)
	program := bpftest.BuildC(t, "../../testdata/workload", "retain")
	var group sync.WaitGroup
	for _, tt := range []struct {
		name    string
		mode    string
		where   string
		subject string
		verdict string
		blamed  string // a part of the name; empty for nobody
	}{
		{"the heap is retained", "retain", "main", "[heap]", "retained", ""},
		{"an arena is retained", "retain", "thread", "malloc arenas", "retained", ""},
		{"the heap is kept", "leak", "main", "[heap]", "leaks", "read_line"},
		{"an arena is kept", "leak", "thread", "malloc arenas", "leaks", "read_line"},
	} {
		prog := leaks.Start(t, t.TempDir(), []string{program, tt.mode, tt.where, "600"})
		p := launch(t, exec.Command(binary(t), "grow", "--for", "20s", "-o", "json", "-p", strconv.Itoa(prog.Process.Pid)))
		group.Go(func() {
			r := p.result()
			var watch render.WatchObject
			var worst render.FindingObject
			dec := json.NewDecoder(strings.NewReader(r.out))
			if err := dec.Decode(&watch); err != nil {
				t.Errorf("%s: %v: %s%s", tt.name, err, r.out, r.stderr)
				return
			}
			if err := dec.Decode(&worst); err != nil {
				t.Errorf("%s: %v: %s%s", tt.name, err, r.out, r.stderr)
				return
			}
			t.Logf("%s: %s", tt.name, worst.Sentence)
			if string(worst.Subject) != tt.subject || worst.Verdict != tt.verdict || (worst.Blamed == "") != (tt.blamed == "") || !strings.Contains(worst.Blamed, tt.blamed) {
				t.Errorf("%s: want %s of %s, by %q", tt.name, tt.verdict, tt.subject, tt.blamed)
			}
			m := watch.Malloc
			if m == nil || m.Before == 0 {
				t.Errorf("%s: of malloc it is known %+v", tt.name, m)
				return
			}
			// Both grow by some 20 MiB.
			const much = 4 << 20
			if more := m.InUse - m.Before; (more > much) != (tt.mode == "leak") || (m.Free > much) != (tt.mode == "retain") {
				t.Errorf("%s: malloc has %+v", tt.name, *m)
			}
		})
	}
	group.Wait()
}
