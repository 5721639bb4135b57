package main

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/maptrace/maptrace/cmd/maptrace/internal/render"
	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer"
	"github.com/maptrace/maptrace/tracer/attribution"
	"github.com/maptrace/maptrace/tracer/event"
	"github.com/maptrace/maptrace/tracer/heap"
	"github.com/maptrace/maptrace/tracer/model"
	"github.com/maptrace/maptrace/tracer/site"
	"github.com/maptrace/maptrace/tracer/space"
	"github.com/maptrace/maptrace/tracer/stack"
)

var update = flag.Bool("update", false, "write what is printed into the scripts")

// TestGrowPrintsWhatAScriptLeadsTo plays scripts of operations and records to grow. A file
// of testdata/grow is a script, a line "-- text --", and what grow prints of it.
// The commands, of which each is about the process that was named last:
//
//	process PID COMM     a process begins, in an address space of the same number
//	exec COMM            it has a new image
//	exit STATUS          it ends
//	begin                what was mapped so far is what it begins with
//	map SIZE SITE        site SITE maps memory: function f1, f2 …; 0 for no site
//	unmap SITE           the oldest piece of a site is unmapped
//	count PERCENT        that much of each mapping is found to be resident
//	uncounted WHY        its pages cannot be counted
//	approximate WHY      its tree is not right
//	wait SECONDS         time passes
//	repeat N … end       N times
func TestGrowPrintsWhatAScriptLeadsTo(t *testing.T) {
	t.Setenv("LC_ALL", "C.UTF-8") // the trend is drawn in blocks
	paths, err := filepath.Glob("testdata/grow/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatalf("%d scripts, %v", len(paths), err)
	}
	const mark = "-- text --\n"
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			file, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			script, want, _ := strings.Cut(string(file), mark)
			got := growOf(t, script)
			if *update {
				if err := os.WriteFile(path, []byte(script+mark+got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got, -update writes it anew):\n%s", diff)
			}
		})
	}
}

// growOf is what grow prints of a script.
func growOf(t *testing.T, script string) string {
	t.Helper()
	opts := model.Options{PageSize: 4096, OnChange: func(*model.Change) {}}
	s := &scripted{t: t, rec: tracer.NewRecording(opts, 1e9), model: model.New(opts), now: 1e9, made: make(map[uint64][]procmaps.Range)}
	s.run(strings.Split(script, "\n"))
	s.rec.Emit(&event.Record{At: s.now, Body: event.Effort{}})
	s.rec.Tick(s.now)

	sites := site.New(site.Options{})
	defer func() {
		if err := sites.Close(); err != nil {
			t.Error(err)
		}
	}()
	a := &attached{
		Session: tracer.Replay(s.rec), o: &attachOptions{output: "text"}, sites: sites, err: io.Discard,
		clock: render.NewClock(time.Unix(0, 0).UTC(), 0),
	}
	g := &growRun{
		attached: a, o: &growOptions{attachOptions: *a.o, interval: time.Second, top: 10, frames: 16},
		Growth: attribution.NewGrowth(attribution.Options{Names: functions{}, Interval: time.Second, Settle: time.Second}),
	}
	if err := g.Run(t.Context(), tracer.RunOptions{Sinks: []tracer.Sink{g}}); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := g.finish(&out); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// functions are the names of a script's sites.
type functions struct{}

func (functions) Use(uint32) {}

func (functions) Group(site uint32) uint32 { return site }
func (functions) Pool(uint32) string       { return "" }
func (functions) Moves(uint32) bool        { return false }

func (functions) Path(uint32) []heap.Place         { return nil }
func (functions) PlaceName(uint32, int) stack.Name { return stack.Name{} }

func (functions) Function(site uint32) stack.Name {
	if site == 0 {
		return stack.Name{}
	}
	return stack.Plain("f" + strconv.Itoa(int(site)))
}

func (f functions) StackNames(site uint32) (frames []stack.Name, end string) {
	return []stack.Name{f.Function(site), stack.Plain("main")}, ""
}

// scripted records what a script says.
type scripted struct {
	t     *testing.T
	rec   *tracer.Recording
	model *model.Model // of what is recorded, to know what there is to be counted
	now   uint64
	pid   int
	space uint64
	next  uint64 // a free address
	made  map[uint64][]procmaps.Range
}

func (s *scripted) run(lines []string) {
	s.t.Helper()
	for i := 0; i < len(lines); i++ {
		word := strings.Fields(lines[i])
		if len(word) == 0 || word[0][0] == '#' {
			continue
		}
		if word[0] != "repeat" {
			s.do(word[0], word[1:])
			continue
		}
		end := i + 1
		for lines[end] != "end" {
			end++
		}
		for range s.number(word[1]) {
			s.run(lines[i+1 : end])
		}
		i = end
	}
}

func (s *scripted) number(word string) uint64 {
	s.t.Helper()
	n, err := strconv.ParseUint(word, 0, 64)
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

// op records an operation.
func (s *scripted) op(b model.Body) {
	op := model.Operation{Time: s.now, Space: s.space, TGID: s.pid, TID: s.pid, Body: b}
	s.rec.Apply(&op)
	s.model.Apply(&op)
}

// sampled records what a sampler has found.
func (s *scripted) sampled(b event.Body) {
	s.rec.Emit(&event.Record{At: s.now, Space: s.space, PID: s.pid, Body: b})
}

func (s *scripted) do(command string, args []string) {
	s.t.Helper()
	s.now += 1000
	switch command {
	case "process":
		s.pid, s.next = int(s.number(args[0])), 0x7f0000000000
		s.space = uint64(s.pid)
		if s.model.Process(s.pid) == nil {
			s.op(model.Layout{})
			s.op(model.Join{Comm: args[1], Numbered: true})
		}
	case "exec":
		s.space += 1000
		s.op(model.Exec{Comm: args[0], Numbered: true})
	case "exit":
		s.op(model.Exit{Status: uint32(s.number(args[0])) << 8})
	case "begin":
		s.op(model.Complete(true))
		s.op(model.Begin{})
	case "map":
		size, err := parseSize(args[0])
		if err != nil {
			s.t.Fatal(err)
		}
		site := s.number(args[1])
		c := space.Call{
			Op: space.OpMmap, Time: s.now, TID: uint32(s.pid), Ret: int64(s.next), Args: [6]uint64{0, size, 3, 0x22, ^uint64(0)},
			Site: uint64(model.MakeBlame(uint32(site), 0)),
		}
		s.op(&model.Call{Call: &c, Site: uint32(site)})
		s.made[site] = append(s.made[site], procmaps.Range{Start: s.next, End: s.next + size})
		s.next += size + 1<<20
	case "unmap":
		site := s.number(args[0])
		r := s.made[site][0]
		s.made[site] = s.made[site][1:]
		c := space.Call{Op: space.OpMunmap, Time: s.now, TID: uint32(s.pid), Args: [6]uint64{r.Start, r.Len()}}
		s.op(&model.Call{Call: &c})
	case "count":
		var found event.Resident
		for e := range s.model.Tree(s.space).Extents(space.All) {
			found = append(found, procmaps.Resident{Bytes: e.Len() * s.number(args[0]) / 100})
		}
		s.sampled(event.Counting{})
		s.sampled(found)
	case "uncounted":
		s.sampled(event.Uncounted(strings.Join(args, " ")))
	case "approximate":
		s.op(model.Approximate(strings.Join(args, " ")))
	case "wait":
		s.now += s.number(args[0]) * uint64(time.Second)
		s.rec.Tick(s.now)
		s.rec.Idle()
	default:
		s.t.Fatal(fmt.Errorf("no command %q", command))
	}
}
