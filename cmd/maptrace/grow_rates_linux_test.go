package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/maptrace/maptrace/bpf/bpftest"
	"github.com/maptrace/maptrace/cmd/maptrace/internal/render"
	"github.com/maptrace/maptrace/procmaps"
)

// rated is a run of testdata/workload/rates.c.
type rated struct {
	cmd    *exec.Cmd
	seed   uint64
	actors []string
	steady map[int]bool // those that keep something and never pause, by function
	in     io.WriteCloser
	out    *bufio.Scanner
	held   map[int][2]uint64 // by function: mapped and resident, by its own count
	speed  map[int][2]uint64 // the least and the most that it mapped in a second
	found  []render.FindingObject
}

// seconds is for how long each program runs: on a busy machine looks come late, and of fewer
// the slope is not as good.
const seconds = 8

// rhythm makes the actors of a program: 10 to 100,000 calls a second in all.
func rhythm(seed uint64) *rated {
	r := rand.New(rand.NewPCG(seed, 11))
	p := &rated{seed: seed, steady: make(map[int]bool)}
	hows := []string{"mmap", "mmap", "mmap", "deep", "malloc", "shared", "grow"}
	budget := math.Pow(10, 1+4*r.Float64())
	for f, n := 0, 2+r.IntN(5); f < n; f++ {
		how := hows[r.IntN(len(hows))]
		rate := max(2, int(budget/float64(n)*(0.2+1.6*r.Float64())))
		size := 4096 << r.IntN(6)
		on, off := 1000, 0
		if r.IntN(2) == 0 {
			on, off = 5+r.IntN(300), 5+r.IntN(300)
		}
		// Some 20 MB in all at most, and no more pieces than a process may have.
		keep, life := 0, r.IntN(64)
		if r.IntN(3) > 0 {
			keep = 1 + r.IntN(4)
			for rate*seconds/keep > 4000 || rate*seconds/keep*size > 20<<20 {
				keep *= 2
			}
		}
		switch how {
		case "malloc":
			size = 140_000 + r.IntN(100_000)
			rate = min(rate, 2000)
			if keep > 0 {
				keep = max(keep, rate*seconds*size>>25)
			}
		case "grow":
			rate, keep, size = min(rate, 2000), 0, 4096
		}
		p.actors = append(p.actors, fmt.Sprintf("%d:%s:%d:%d:%d:%d:%d:%d:%d", f, how, size, rate, on, off, keep, life, 10*r.IntN(11)))
		// Those that a busy machine does not slow down, and that do not go by steps.
		const pace = 5000
		p.steady[f] = off == 0 && keep > 0 && how != "malloc" && how != "grow" && budget < pace && rate/keep >= 50 && life < rate/keep/10
	}
	return p
}

func (p *rated) start(t *testing.T, bin, length string) {
	t.Helper()
	p.cmd = exec.CommandContext(t.Context(), bin, append([]string{length}, p.actors...)...)
	p.cmd.Stderr = os.Stderr
	var err error
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err = p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.out, p.held, p.speed = bufio.NewScanner(out), make(map[int][2]uint64), make(map[int][2]uint64)
	t.Cleanup(func() { _ = p.in.Close(); _ = p.cmd.Wait() })
}

// count waits for what the program says that it holds.
func (p *rated) count(t *testing.T) {
	t.Helper()
	const functions = 10
	for range functions {
		if !p.out.Scan() {
			t.Fatalf("%v: no count", p.actors)
		}
		var f int
		var held, speed [2]uint64
		if _, err := fmt.Sscan(p.out.Text(), &f, &held[0], &held[1], &speed[0], &speed[1]); err != nil {
			t.Fatal(err)
		}
		p.held[f], p.speed[f] = held, speed
	}
}

// TestTheFiguresAreThePrograms has programs say themselves what their functions hold,
// at rates and in rhythms that nothing was tuned on.
func TestTheFiguresAreThePrograms(t *testing.T) {
	needBPF(t)
	seeds, together := uint64(4), 4
	if os.Getenv("MAPTRACE_LONG") != "" {
		seeds = 40
	}
	bin := bpftest.BuildC(t, "../../testdata/workload", "rates")
	for first := uint64(0); first < seeds; first += uint64(together) {
		var group []*rated
		for seed := first; seed < min(first+uint64(together), seeds); seed++ {
			group = append(group, rhythm(seed))
		}
		watchRated(t, bin, group)
		for _, p := range group {
			t.Run(fmt.Sprint(p.seed), p.check)
		}
	}
}

// watchRated runs grow on programs from before they begin until they stand still.
func watchRated(t *testing.T, bin string, group []*rated) {
	t.Helper()
	dir := t.TempDir()
	ready, file := filepath.Join(dir, "ready"), filepath.Join(dir, "found")
	args := []string{"grow", "--for", "10m", "--interval", "250ms", "-o", "json", "--to", file, "--ready-file", ready}
	of := make(map[int]*rated)
	for _, p := range group {
		p.start(t, bin, strconv.Itoa(1000*seconds))
		of[p.cmd.Process.Pid] = p
		args = append(args, "-p", strconv.Itoa(p.cmd.Process.Pid))
	}
	grow := exec.CommandContext(t.Context(), binary(t), args...)
	var said bytes.Buffer
	grow.Stdout, grow.Stderr = &said, &said
	if err := grow.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "grow to be ready", func() bool { _, err := os.Stat(ready); return err == nil })
	for _, p := range group {
		if _, err := p.in.Write([]byte{'\n'}); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range group {
		p.count(t)
	}
	// The last look is taken when it ends.
	if err := grow.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := grow.Wait(); err != nil {
		t.Fatalf("grow: %v\n%s", err, &said)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		var o render.FindingObject
		if err := json.Unmarshal([]byte(line), &o); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if p := of[o.PID]; p != nil && o.Event == "finding" {
			p.found = append(p.found, o)
		}
	}
}

// check compares what was found with the program's own count and the kernel's.
func (p *rated) check(t *testing.T) {
	t.Logf("actors %v", p.actors)
	got := make(map[int][2]uint64)
	var mapped uint64
	var mappings int
	for i := range p.found {
		f := &p.found[i]
		mapped += f.Mapped
		mappings += f.Mappings
		for _, name := range []string{"make_", "enlarge_"} {
			rest, ok := strings.CutPrefix(f.From, name)
			if !ok {
				continue
			}
			n := int(rest[0] - '0')
			got[n] = [2]uint64{got[n][0] + f.Mapped, got[n][1] + f.Resident}
			if p.steady[n] {
				p.checkRate(t, n, f)
			}
		}
	}
	for n, want := range p.held {
		for i, what := range []string{"mapped", "resident"} {
			// A thread that allocates has an arena, too.
			if w, g := float64(want[i]), float64(got[n][i]); math.Abs(g-w) > 0.05*w+200<<10 {
				t.Errorf("%s of function %d: found %.0f, it holds %.0f", what, n, g, w)
			}
		}
	}
	rows, bytes := p.kernels(t)
	if mappings != rows || mapped != bytes {
		t.Errorf("all findings have %d bytes in %d mappings, the kernel %d in %d", mapped, mappings, bytes, rows)
	}
}

// checkRate compares the rate at which a function's memory grows with its own count, if
// it is one that can be judged. On a busy machine it is not the same all the time.
func (p *rated) checkRate(t *testing.T, n int, f *render.FindingObject) {
	t.Helper()
	held, least, most := p.held[n], float64(p.speed[n][0]), float64(p.speed[n][1])
	switch f.Measure {
	case "resident":
		touched := float64(held[1]) / float64(held[0])
		least, most = touched*least, touched*most
	case "mappings":
		return
	}
	if f.Slope > 0 && least > 200<<10 && (f.Slope < 0.95*least || f.Slope > 1.05*most) {
		t.Errorf("rate of function %d, %s: found %.0f a second, it made %.0f to %.0f", n, f.Measure, f.Slope, least, most)
	}
}

// kernels is how many mappings the kernel has, neighbours of one kind taken for one,
// and how much of them can be used.
func (p *rated) kernels(t *testing.T) (rows int, bytes uint64) {
	t.Helper()
	proc, err := procmaps.Default().Process(p.cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	defer proc.Close()
	all, err := proc.Maps()
	if err != nil {
		t.Fatal(err)
	}
	var last procmaps.Mapping
	for _, m := range all {
		if strings.HasPrefix(m.Name, "[v") || m.Name == "[uprobes]" {
			continue
		}
		if m.Mode&procmaps.Perm != 0 {
			bytes += m.Len()
		}
		same := last.End == m.Start && last.Mode == m.Mode && last.Name == m.Name && last.Inode == m.Inode &&
			(m.Inode == 0 || last.Offset+last.Len() == m.Offset)
		if !same {
			rows++
		}
		last = m
	}
	return rows, bytes
}
