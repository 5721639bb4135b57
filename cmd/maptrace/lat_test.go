package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The members of the objects of lat -o json, as their readers know them.
type (
	jsonHist struct {
		Count     uint64 `json:"count"`
		Total     uint64 `json:"total_ns"`
		Mean      uint64 `json:"mean_ns"`
		P50       uint64 `json:"p50_ns"`
		P90       uint64 `json:"p90_ns"`
		P99       uint64 `json:"p99_ns"`
		P999      uint64 `json:"p99_9_ns"`
		Max       uint64 `json:"max_ns"`
		Histogram []struct {
			From  uint64 `json:"from_ns"`
			To    uint64 `json:"to_ns"`
			Count uint64 `json:"count"`
		} `json:"histogram"`
	}
	jsonLatency struct {
		Event     string    `json:"event"`
		Operation string    `json:"operation"`
		Call      bool      `json:"call"`
		Failed    uint64    `json:"failed"`
		Slow      uint64    `json:"slow"`
		Duration  *jsonHist `json:"duration"`
		Wait      *jsonHist `json:"wait"`
		Hold      *jsonHist `json:"hold"`
		WriteHold uint64    `json:"write_hold_ns"`
		Longest   uint64    `json:"longest_hold_ns"`
	}
	jsonSite struct {
		Event     string   `json:"event"`
		Operation string   `json:"operation"`
		Site      string   `json:"site"`
		Sampled   uint64   `json:"sampled"`
		Calls     uint64   `json:"calls"`
		Total     uint64   `json:"total_ns"`
		P50       uint64   `json:"p50_ns"`
		P99       uint64   `json:"p99_ns"`
		Max       uint64   `json:"max_ns"`
		Wait      uint64   `json:"wait_ns"`
		Hold      uint64   `json:"hold_ns"`
		Stack     []string `json:"stack"`
		StackEnd  string   `json:"stack_end"`
	}
	jsonTimedCall struct {
		Event     string    `json:"event"`
		Time      time.Time `json:"time"`
		PID       int       `json:"pid"`
		TID       int       `json:"tid"`
		Operation string    `json:"operation"`
		Size      *uint64   `json:"size"`
		Errno     string    `json:"errno"`
		Duration  uint64    `json:"duration_ns"`
		Wait      uint64    `json:"wait_ns"`
		Hold      uint64    `json:"hold_ns"`
		WriteHold uint64    `json:"write_hold_ns"`
		Longest   uint64    `json:"longest_hold_ns"`
		Locks     uint32    `json:"locks"`
		Stack     []string  `json:"stack"`
		StackEnd  string    `json:"stack_end"`
	}
	jsonSiteSum struct {
		Sites int    `json:"sites"`
		Calls uint64 `json:"calls"`
		Total uint64 `json:"total_ns"`
		Wait  uint64 `json:"wait_ns"`
		Hold  uint64 `json:"hold_ns"`
	}
	jsonLatSummary struct {
		Event      string      `json:"event"`
		Time       time.Time   `json:"time"`
		Measured   float64     `json:"measured_s"`
		Processes  int         `json:"processes"`
		Calls      uint64      `json:"calls"`
		SlowLimit  uint64      `json:"slow_limit_ns"`
		Slow       uint64      `json:"slow"`
		Sampled    uint64      `json:"sampled"`
		OtherSites jsonSiteSum `json:"other_sites"`
		NoSite     jsonSiteSum `json:"no_site"`
		Dropped    uint64      `json:"dropped"`
		Unstacked  uint64      `json:"unstacked"`
		Unmeasured uint64      `json:"unmeasured"`
		Picture    string      `json:"picture"`
	}
	latObjects struct {
		ops     map[string]*jsonLatency
		sites   []jsonSite
		calls   []jsonTimedCall
		summary jsonLatSummary
	}
)

// parseLat reads lat -o json, which must be one object of known members a line,
// the summary last.
func parseLat(t *testing.T, text string) latObjects {
	t.Helper()
	o := latObjects{ops: make(map[string]*jsonLatency)}
	last := ""
	for line := range strings.Lines(text) {
		var kind struct {
			Event string `json:"event"`
		}
		if err := json.Unmarshal([]byte(line), &kind); err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		var into any
		var op jsonLatency
		switch last = kind.Event; last {
		case "latency":
			into = &op
		case "site":
			o.sites = append(o.sites, jsonSite{})
			into = &o.sites[len(o.sites)-1]
		case "call":
			o.calls = append(o.calls, jsonTimedCall{})
			into = &o.calls[len(o.calls)-1]
		case "summary":
			into = &o.summary
		default:
			t.Fatalf("an unknown event %q", last)
		}
		dec := json.NewDecoder(strings.NewReader(line))
		dec.DisallowUnknownFields()
		if err := dec.Decode(into); err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		if last == "latency" {
			o.ops[op.Operation] = &op
		}
	}
	if last != "summary" {
		t.Fatalf("the last object is %q, want the summary", last)
	}
	return o
}

// measuring starts "maptrace lat" and waits until it says that it is ready.
func measuring(t *testing.T, args ...string) *process {
	t.Helper()
	ready := filepath.Join(t.TempDir(), "ready")
	p := launch(t, exec.Command(binary(t), append([]string{"lat", "--ready-file", ready}, args...)...))
	eventually(t, "maptrace is ready", func() bool {
		select {
		case <-p.done:
			t.Fatalf("maptrace ended before it was ready: %s", p.err.String())
		default:
		}
		b, err := os.ReadFile(ready)
		return err == nil && strings.HasSuffix(string(b), "\n")
	})
	return p
}

// TestLatTellsOfARunningProgram has one make known calls: its few mprotect are
// nobody else's, and every figure of the sites adds up to those of all calls. All
// are slow: how fast a machine refuses one must not matter.
func TestLatTellsOfARunningProgram(t *testing.T) {
	t.Parallel()
	needBPF(t)
	h := startHelper(t, "calls", "/etc/passwd")
	p := measuring(t, "-p", h.pid(), "-o", "json", "--slow", "1ns", "--top", "1000")
	h.tell("go")
	h.hear("done")
	p.signal(syscall.SIGINT)
	r := succeed(t, p.result())
	h.unharmed()
	o := parseLat(t, r.out)
	mmap, mprotect, munmap := o.ops["mmap"], o.ops["mprotect"], o.ops["munmap"]
	if mmap == nil || mprotect == nil || munmap == nil {
		t.Fatalf("operations are missing:\n%s", r.out)
	}
	if mprotect.Duration.Count != callsReadBit || mprotect.Failed != 0 || mmap.Failed != callsRefused ||
		mmap.Duration.Count < callsMaps+callsRefused+callsFiles || munmap.Duration.Count < callsHoles {
		t.Errorf("mmap %+v, mprotect %+v, munmap %+v", mmap, mprotect, munmap)
	}
	var calls, slow, inHist, took uint64
	for _, op := range o.ops {
		if !op.Call {
			continue
		}
		calls += op.Duration.Count
		slow += op.Slow
		took += op.Duration.Total
		for _, oct := range op.Duration.Histogram {
			inHist += oct.Count
		}
		if op.Duration.P50 > op.Duration.P99 || op.Duration.P99 > op.Duration.Max || op.WriteHold > op.Hold.Total {
			t.Errorf("%+v", op)
		}
	}
	s := o.summary
	if s.Calls != calls || s.Slow != slow || slow != calls || inHist != calls || s.SlowLimit != 1 || s.Processes != 1 {
		t.Errorf("%d calls, %d slow, %d in histograms; summary %+v", calls, slow, inHist, s)
	}
	sum := s.OtherSites.Calls + s.NoSite.Calls
	total := s.OtherSites.Total + s.NoSite.Total
	for _, site := range o.sites {
		sum += site.Calls
		total += site.Total
	}
	if sum != calls || total != took {
		t.Errorf("the sites have %d calls and %d ns, all are %d and %d", sum, total, calls, took)
	}
	if r.named() && !slices.ContainsFunc(o.sites, func(s jsonSite) bool {
		return s.Operation == "mprotect" && s.Calls == callsReadBit &&
			slices.ContainsFunc(s.Stack, func(f string) bool { return strings.HasPrefix(f, "main.") || strings.Contains(f, "makeCalls") })
	}) {
		t.Errorf("no site of mprotect: %+v", o.sites)
	}
	for i, c := range o.calls {
		if i > 0 && c.Duration > o.calls[i-1].Duration || c.Wait+c.Hold > c.Duration || c.PID != h.Process.Pid || len(c.Stack) == 0 {
			t.Errorf("call %d: %+v", i, c)
		}
	}
	if uint64(len(o.calls)) != min(slow, 1000) || !slices.ContainsFunc(o.calls, func(c jsonTimedCall) bool {
		return c.Operation == "mmap" && c.Errno == "EEXIST" && *c.Size == uint64(callsPages*os.Getpagesize())
	}) {
		t.Errorf("%d calls of %d slow ones; the refused ones are missing?\n%+v", len(o.calls), slow, o.calls)
	}
}

func TestLatPassesTheStatusOfTheCommandOn(t *testing.T) {
	t.Parallel()
	needBPF(t)
	to := filepath.Join(t.TempDir(), "lat.txt")
	r := maptrace(t, "lat", "--to", to, "--", "sh", "-c", "echo out; (ls / >/dev/null; true); exit 7")
	if r.code != 7 || r.out != "out\n" || r.stderr != "" {
		t.Errorf("got %+v", r)
	}
	b, err := os.ReadFile(to)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		" mapping calls of ", "\nDuration of the calls\n", "\nmmap ", "\nfork ", "\nWaiting for the mmap lock\n", "\nHolding it",
		"|@@@@@@@@@@", "\nBy site, estimated from ", "at most 6.25 % off.\n",
	} {
		if !strings.Contains(string(b), want) {
			t.Errorf("the text lacks %q:\n%s", want, b)
		}
	}
}

func TestLatRefusesWhatIsNotThere(t *testing.T) {
	t.Parallel()
	r := maptrace(t, "lat", "-p", "4194305") // beyond PID_MAX_LIMIT
	if r.code != exitGone || r.out != "" {
		t.Errorf("got %+v", r)
	}
	checkOneLine(t, r.stderr, "4194305")
}

func TestLatEndsAfterItsTime(t *testing.T) {
	t.Parallel()
	needBPF(t)
	h := startHelper(t, "calls", "/etc/passwd")
	began := time.Now()
	r := succeed(t, maptrace(t, "lat", "-p", h.pid(), "--for", "300ms"))
	if took := time.Since(began); took < 300*time.Millisecond {
		t.Errorf("it took %v", took)
	}
	if !strings.Contains(r.out, " of 1 process in 0.") && !strings.Contains(r.out, " of 1 process in 1.") {
		t.Errorf("printed\n%s", r.out)
	}
	h.unharmed()
}
