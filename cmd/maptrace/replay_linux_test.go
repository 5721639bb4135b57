package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/maptrace/maptrace/bpf/bpftest"
	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/testdata/leaks"
	"github.com/maptrace/maptrace/testdata/tool"
	"github.com/maptrace/maptrace/tracer"
	"github.com/maptrace/maptrace/tracer/attribution"
	"github.com/maptrace/maptrace/tracer/sample"
	"github.com/maptrace/maptrace/tracer/site"
)

// printed is what a command prints in one form, as a sink of a session that others share.
type printed struct {
	name string
	tracer.Sink
	end func() error
	out bytes.Buffer
}

// printers are those of trace, grow and lat, each in both forms. Of what polling tells
// only trace makes anything.
func printers(t *testing.T, a *attached) (all []*printed, first *growRun) {
	t.Helper()
	for _, output := range []string{"text", "json"} {
		o := *a.o
		o.output = output

		var traced printed
		p := &tracePrinter{
			attached: a, o: &traceOptions{attachOptions: o, tableEvery: 200 * time.Millisecond, failed: true, stack: true, paths: true},
			sites: a.sites, stacks: make(map[uint32][]string),
		}
		p.filter = p.o.filter()
		if err := p.begin(&traced.out); err != nil {
			t.Fatal(err)
		}
		traced.name, traced.Sink, traced.end = "trace "+output, p, p.end
		all = append(all, &traced)
		if o.poll != 0 {
			continue
		}

		var grown printed
		g := &growRun{
			attached: a, o: &growOptions{attachOptions: o, interval: interval, top: 10, frames: 16},
			Growth: attribution.NewGrowth(attribution.Options{Names: a.sites, Interval: interval, Settle: time.Second}),
		}
		grown.name, grown.Sink, grown.end = "grow "+output, g, func() error { return g.finish(&grown.out) }
		if first == nil {
			first = g
		}

		var timed printed
		m := &meter{
			attached: a, o: &latOptions{attachOptions: o, slow: tracer.DefaultSlow, top: 10, frames: 16},
			Timings: attribution.NewTimings(a.sites, 10), began: a.Now(),
		}
		timed.name, timed.Sink, timed.end = "lat "+output, m, func() error { return m.end(&timed.out) }
		all = append(all, &grown, &timed)
	}
	return all, first
}

const interval = 100 * time.Millisecond

func sinks(all []*printed) (out []tracer.Sink) {
	for _, p := range all {
		out = append(out, p)
	}
	return out
}

func finish(all []*printed) error {
	var errs []error
	for _, p := range all {
		errs = append(errs, p.end())
	}
	return errors.Join(errs...)
}

// live runs a program under the three commands at once, and records what they are told.
func live(t *testing.T, o *attachOptions, stdin string, rec *tracer.Recording) (*attached, []*printed) {
	t.Helper()
	sites := site.New(site.Options{})
	t.Cleanup(func() { _ = sites.Close() })
	kernel := tracer.LiveOptions{
		Stacks:  &tracer.StackOptions{Rate: tracer.DefaultStackRate, FaultRate: 200, Writes: true, BlockRate: blockRate},
		Latency: &tracer.LatencyOptions{Slow: tracer.DefaultSlow},
	}
	s := streams{in: strings.NewReader(stdin), out: io.Discard, err: io.Discard}
	a, err := attach(s, o, kernel, tracer.Options{Verify: 50 * time.Millisecond}, sites)
	if err != nil {
		t.Fatal(err)
	}
	all, g := printers(t, a)
	a.Record(rec)
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	run := tracer.RunOptions{Sinks: sinks(all)}
	if o.poll != 0 {
		if err = errors.Join(a.run(ctx, run, func() error { return finish(all) }), a.close()); err != nil {
			t.Fatal(err)
		}
		return a, all
	}
	sampler := sample.New(a.Info().Sampling, sample.Options{
		FS: procmaps.Default(), Emit: a.Emit, Trees: a.Tree, Interval: interval, Budget: 0.05, Faults: true,
		Watchpoints: 2, Settle: time.Second, Doubtful: g.Doubtful, Reach: g.Reach, Group: sites.Group, Log: a.log,
		HeapBudget: 0.01, Site: sites.Site, Allocators: sites.Allocators, GoProgram: sites.GoProgram, Walked: sites.Walked, Sampled: g.Sampled,
	})
	run.Samplers = []tracer.Sampler{sampler}
	err = a.run(ctx, run, func() error { return finish(all) })
	sampler.Close()
	if err = errors.Join(err, a.close()); err != nil {
		t.Fatal(err)
	}
	return a, all
}

// replayed plays a recording to the three commands.
func replayed(t *testing.T, of *attached, rec *tracer.Recording) []*printed {
	t.Helper()
	a := &attached{Session: tracer.Replay(rec), o: of.o, clock: of.clock, log: of.log, err: io.Discard, sites: of.sites}
	all, _ := printers(t, a)
	if err := a.Run(t.Context(), tracer.RunOptions{Sinks: sinks(all)}); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(finish(all), a.close()); err != nil {
		t.Fatal(err)
	}
	return all
}

// TestAReplayPrintsWhatTheLiveRunPrinted is the claim that the ordered operations and the
// samplers' records are all there is: what is made of them again is the same, byte for
// byte.
func TestAReplayPrintsWhatTheLiveRunPrinted(t *testing.T) {
	t.Parallel()
	needBPF(t)
	const workloads = "../../testdata/workload"
	program, err := build()
	if err != nil {
		t.Fatal(err)
	}
	gochurn := filepath.Join(t.TempDir(), "gochurn")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", gochurn, workloads+"/gochurn").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	server := leaks.GoServer("sessions")
	goserver := server.Build(t, t.TempDir())
	for _, tt := range []struct {
		name  string
		argv  []string
		stdin string
		more  attachOptions
	}{
		{"churn, many threads", []string{bpftest.BuildC(t, workloads, "churn"), "-m", "all", "-t", "4", "-n", "1500", "-s", "3"}, "", attachOptions{}},
		{"a ring that is too small", []string{bpftest.BuildC(t, workloads, "churn"), "-m", "mm", "-t", "4", "-n", "3000", "-s", "4"}, "", attachOptions{ring: 4096}},
		{"polling", []string{program, leakyCommand, "--duration", "1s"}, "", attachOptions{poll: 20 * time.Millisecond}},
		{"leak", []string{bpftest.BuildC(t, workloads, "leak"), "-r", "200", "-d", "2"}, "", attachOptions{}},
		{"a heap that malloc retains", []string{bpftest.BuildC(t, workloads, "retain"), "retain", "main", "6"}, "", attachOptions{}},
		{"rates", []string{
			bpftest.BuildC(t, workloads, "rates"), "2000",
			"0:mmap:8192:300:1000:0:2:20:50", "1:malloc:150000:100:100:100:4:8:100", "2:grow:4096:100:1000:0:0:0:100", "3:deep:4096:200:50:50:0:4:100",
		}, "\n", attachOptions{}},
		{"the program of the demo", []string{program, leakyCommand, "--duration", "2s"}, "", attachOptions{}},
		{"go", []string{gochurn, "-t", "2", "-n", "300", "-s", "1"}, "", attachOptions{}},
		{"the profile of a heap of go's", leaks.Args(goserver, 8*time.Second, 4<<20), "", attachOptions{}},
		{"python", []string{"python3", "-c", "import json, threading, subprocess\nkept = [bytes(50_000) for _ in range(400)]\nsubprocess.run(['true'])"}, "", attachOptions{}},
		{"a pipeline", []string{"sh", "-c", "seq 2000 | sort -r | uniq -c >/dev/null; (exec true); cat /proc/self/maps >/dev/null"}, "", attachOptions{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if !filepath.IsAbs(tt.argv[0]) { // it was not built here
				tool.Need(t, tt.argv[0])
			}
			var rec tracer.Recording
			tt.more.argv = tt.argv
			a, want := live(t, &tt.more, tt.stdin, &rec)
			for range 2 { // a recording can be played again
				for i, got := range replayed(t, a, &rec) {
					if diff := cmp.Diff(want[i].out.String(), got.out.String()); diff != "" {
						t.Errorf("%s (-live +replayed):\n%.4000s", got.name, diff)
					}
				}
			}
			var printed []string
			for _, p := range want {
				if p.out.Len() == 0 {
					t.Errorf("%s has printed nothing", p.name)
				}
				printed = append(printed, p.name+" "+strconv.Itoa(p.out.Len()))
			}
			for _, p := range want {
				if p.name == "grow json" && slices.Contains(tt.argv, "retain") && !strings.Contains(p.out.String(), `"malloc":{"in_use":`) {
					t.Error("what malloc holds is not there")
				}
			}
			if tt.more.ring != 0 && !strings.Contains(want[0].out.String(), " lost ") {
				t.Error("nothing was lost")
			}
			if tt.argv[0] == goserver[0] && !strings.Contains(want[1].out.String(), "of the program's own heap profile") {
				t.Errorf("no profile was read: %s", &want[1].out)
			}
			t.Log(strings.Join(printed, ", "))
		})
	}
}
