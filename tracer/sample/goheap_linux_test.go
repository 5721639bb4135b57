package sample

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	pprof "github.com/google/pprof/profile"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/testdata/tool"
	"github.com/maptrace/maptrace/tracer/goheap"
	"github.com/maptrace/maptrace/tracer/heap"
	"github.com/maptrace/maptrace/tracer/symbol"
)

// goProgram is testdata/goheap, running.
type goProgram struct {
	t     *testing.T
	cmd   *exec.Cmd
	dir   string
	pid   int
	input io.WriteCloser
	lines *bufio.Reader

	killed bool
}

// withC has C's linker put programs together.
const withC = "CGO_ENABLED=1"

// buildGoHeap builds testdata/goheap.
func buildGoHeap(t *testing.T, env []string, flags ...string) string {
	t.Helper()
	tool.Need(t, "go")
	if slices.Contains(env, withC) {
		tool.Need(t, "gcc")
	}
	dir := t.TempDir()
	sources, err := filepath.Glob("testdata/goheap/*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range sources {
		b, err := os.ReadFile(s)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(s)), b, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	// Go before 1.16 and after it agree about this place only without modules.
	argv := append([]string{"GOENV=off", "GOFLAGS=", "GO111MODULE=off", "CGO_ENABLED=0"}, env...)
	argv = append(append(argv, "go", "build", "-o", "prog"), flags...)
	cmd := exec.CommandContext(t.Context(), "env", argv...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("env %v: %v\n%s", argv, err, out)
	}
	return filepath.Join(dir, "prog")
}

// start runs it until it is ready.
func startGoHeap(t *testing.T, prog string, env []string, args ...string) *goProgram {
	t.Helper()
	p := &goProgram{t: t, dir: t.TempDir()}
	cmd := exec.Command(prog, args...) // it ends with its input, when the context is done already
	cmd.Dir, cmd.Stderr = p.dir, os.Stderr
	cmd.Env = append(os.Environ(), env...)
	var err error
	if p.input, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.input.Close()
		if err := cmd.Wait(); err != nil && !p.killed {
			t.Error(err)
		}
	})
	p.cmd, p.pid, p.lines = cmd, cmd.Process.Pid, bufio.NewReader(out)
	p.expect("ready")
	return p
}

func (p *goProgram) expect(want string) {
	p.t.Helper()
	if got, err := p.lines.ReadString('\n'); err != nil || got != want+"\n" {
		p.t.Fatalf("it printed %q, %v", got, err)
	}
}

// open opens its heap.
func (p *goProgram) open() (*goHeap, error) {
	p.t.Helper()
	process, err := procmaps.Default().Process(p.pid)
	if err != nil {
		p.t.Fatal(err)
	}
	defer process.Close()
	rows, err := process.Maps()
	if err != nil {
		p.t.Fatal(err)
	}
	row := &rows[slices.IndexFunc(rows, func(m procmaps.Mapping) bool { return m.Inode != 0 })]
	cache := symbol.NewCache(symbol.CacheOptions{})
	p.t.Cleanup(func() { cache.Close() })
	m, err := cache.Module(p.pid, row)
	if err != nil {
		p.t.Fatal(err)
	}
	bias, ok := m.Bias(row.Start, row.Offset)
	if !ok {
		p.t.Fatalf("nothing is mapped at %v", row)
	}
	h, err := openGoHeap(p.pid, m, bias)
	if err == nil {
		p.t.Cleanup(func() { h.Close() })
	}
	return h, err
}

func (p *goProgram) read(h *goHeap) *goheap.Profile {
	p.t.Helper()
	profile, err := h.Read(p.t.Context())
	if err != nil {
		p.t.Fatal(err)
	}
	if profile.Mixed {
		p.t.Error("collections began, though the program stands still")
	}
	return profile
}

// figures are those of a record: what was sampled, live and altogether, or what that
// stands for, and where in the program.
type figures struct {
	liveObjects, liveBytes, objects, bytes int64
	stack                                  string
}

func (f figures) compare(g figures) int {
	return cmp.Or(
		strings.Compare(f.stack, g.stack), cmp.Compare(f.objects, g.objects), cmp.Compare(f.bytes, g.bytes),
		cmp.Compare(f.liveObjects, g.liveObjects), cmp.Compare(f.liveBytes, g.liveBytes),
	)
}

// sampled are the figures of a profile as they were sampled, ordered.
func sampled(p *goheap.Profile) (all []figures) {
	for _, r := range p.Records {
		f := figures{r.AllocObjects - r.FreeObjects, (r.AllocObjects - r.FreeObjects) * r.Size, r.AllocObjects, r.AllocObjects * r.Size, fmt.Sprintf("%#x", r.Stack)}
		all = append(all, f)
	}
	slices.SortFunc(all, figures.compare)
	return all
}

// estimated are the figures of what that stands for, without stacks.
func estimated(p *goheap.Profile) (all []figures) {
	for _, r := range p.Records {
		by := heap.Scale(uint64(r.Size), float64(p.Rate))
		live, objects, size := float64(r.AllocObjects-r.FreeObjects), float64(r.AllocObjects), float64(r.Size)
		all = append(all, figures{int64(live * by), int64(live * size * by), int64(objects * by), int64(objects * size * by), ""})
	}
	slices.SortFunc(all, figures.compare)
	return all
}

var textLine = regexp.MustCompile(`(?m)^(\d+): (\d+) \[(\d+): (\d+)\] @((?: 0x[0-9a-f]+)*)$`)

// written has the program write its profile, and reads what it wrote: as it was sampled,
// what that stands for, and the rate.
func (p *goProgram) written() (sampled, estimated []figures, rate int64) {
	p.t.Helper()
	if _, err := io.WriteString(p.input, "\n"); err != nil {
		p.t.Fatal(err)
	}
	p.expect("written")
	text, err := os.ReadFile(filepath.Join(p.dir, "text"))
	if err != nil {
		p.t.Fatal(err)
	}
	for _, m := range textLine.FindAllSubmatch(text, -1) {
		var n [4]int64
		for i := range n {
			if n[i], err = strconv.ParseInt(string(m[1+i]), 10, 64); err != nil {
				p.t.Fatal(err)
			}
		}
		if n[2] == 0 {
			continue // nothing of it is published
		}
		sampled = append(sampled, figures{n[0], n[1], n[2], n[3], "[" + strings.TrimSpace(string(m[5])) + "]"})
	}
	f, err := os.Open(filepath.Join(p.dir, "proto"))
	if err != nil {
		p.t.Fatal(err)
	}
	defer f.Close()
	proto, err := pprof.Parse(f)
	if err != nil {
		p.t.Fatal(err)
	}
	for _, s := range proto.Sample {
		if s.Value[0] == 0 {
			continue
		}
		estimated = append(estimated, figures{s.Value[2], s.Value[3], s.Value[0], s.Value[1], ""})
	}
	slices.SortFunc(sampled, figures.compare)
	slices.SortFunc(estimated, figures.compare)
	return sampled, estimated, proto.Period
}

// agrees reads the heap of a program, before and after that writes its profile, and
// compares.
func agrees(t *testing.T, prog string, env []string, when, rate, depth string) {
	t.Helper()
	agreesButFor(t, false, prog, env, when, rate, depth)
}

// agreesButFor is agrees, of a program the rate of which cannot be found, or can.
func agreesButFor(t *testing.T, assumed bool, prog string, env []string, when, rate, depth string) {
	t.Helper()
	p := startGoHeap(t, prog, env, when, rate, depth)
	h, err := p.open()
	if err != nil {
		t.Fatal(err)
	}
	before := p.read(h)
	wantSampled, wantEstimated, wantRate := p.written()
	after := p.read(h)
	for _, got := range []*goheap.Profile{before, after} {
		if got.Assumed != assumed || !assumed && got.Rate != wantRate {
			t.Errorf("the rate is %d, assumed: %t; want %d, %t", got.Rate, got.Assumed, wantRate, assumed)
		}
	}
	if len(wantSampled) < 20 {
		t.Errorf("it has %d records only", len(wantSampled))
	}
	allow := gocmp.AllowUnexported(figures{})
	if d := gocmp.Diff(wantSampled, sampled(after), allow); d != "" {
		t.Errorf("sampled (-pprof +got):\n%s", d)
	}
	if d := gocmp.Diff(wantEstimated, estimated(after), allow); d != "" && after.Rate == wantRate {
		t.Errorf("estimated (-pprof +got):\n%s", d)
	}
	// Before the first collection all is counted that was allocated, also while the
	// profile is written. What was there before did not change.
	left := sampled(before)
	if when == "none" {
		for _, w := range wantSampled {
			left = slices.DeleteFunc(left, func(f figures) bool { return f == w })
		}
		wantSampled = nil
	}
	if d := gocmp.Diff(wantSampled, left, allow, gocmp.FilterValues(func(a, b []figures) bool { return len(a)+len(b) == 0 }, gocmp.Ignore())); d != "" {
		t.Errorf("sampled before (-pprof +got):\n%s", d)
	}
}

func TestGoHeapsAreWhatTheirProgramsWrite(t *testing.T) {
	t.Parallel()
	for _, b := range []struct {
		name  string
		env   []string
		flags []string
	}{
		{"with symbols", nil, nil},
		{"position independent", nil, []string{"-buildmode=pie"}},
		{"stripped", nil, []string{"-ldflags=-s -w"}},
		{"stripped, position independent", nil, []string{"-ldflags=-s -w", "-buildmode=pie"}},
		{"by C's linker", []string{withC}, nil},
		{"by C's linker, stripped, position independent", []string{withC}, []string{"-ldflags=-s -w", "-buildmode=pie"}},
	} {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			prog := buildGoHeap(t, b.env, b.flags...)
			for _, r := range []struct{ name, when, rate, depth string }{
				{"sampled as usual", "once", strconv.Itoa(goheap.DefaultRate), "4"},
				{"all sampled", "once", "1", "100"},
				{"at another rate, amid its life", "often", "4099", "20"},
				{"before its first collection", "none", "65536", "20"},
			} {
				t.Run(r.name, func(t *testing.T) { agrees(t, prog, nil, r.when, r.rate, r.depth) })
			}
			t.Run("with deep stacks", func(t *testing.T) {
				agrees(t, prog, []string{"GODEBUG=profstackdepth=1000"}, "once", "32768", "1200")
			})
		})
	}
}

// otherGo returns an environment in which another version of Go builds. Its toolchain comes
// through the module proxy.
func otherGo(t *testing.T, version string) []string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "env", "GOROOT")
	cmd.Env = append(os.Environ(), "GOTOOLCHAIN="+version)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go env with %s: %v", version, err)
	}
	root := strings.TrimSpace(string(out))
	return []string{"GOTOOLCHAIN=local", "GOROOT=" + root, "PATH=" + filepath.Join(root, "bin") + ":" + os.Getenv("PATH")}
}

// What differs: up to Go 1.18 the number of the collection, from Go 1.27 the counts; Go 1.17
// to 1.19 compute the rate.
func TestRealGoHeapsOfOtherVersions(t *testing.T) {
	t.Parallel()
	if os.Getenv("MAPTRACE_LONG") != "1" {
		t.Skip("needs toolchains of 100 MB each: set MAPTRACE_LONG=1")
	}
	for _, version := range []string{
		"go1.9.7", "go1.12.17", "go1.16.15", "go1.17.13", "go1.18.10", "go1.19.13", "go1.20.14", "go1.21.13", "go1.22.12",
		"go1.23.12", "go1.24.9", "go1.25.3", "go1.27.0",
	} {
		t.Run(version, func(t *testing.T) {
			env := otherGo(t, version)
			computed := slices.Contains([]string{"go1.17.13", "go1.18.10", "go1.19.13"}, version)
			for _, b := range []struct {
				name  string
				flags []string
			}{
				{"with symbols", nil},
				{"stripped", []string{"-ldflags=-s -w"}},
			} {
				t.Run(b.name, func(t *testing.T) {
					prog := buildGoHeap(t, env, b.flags...)
					for _, r := range []struct{ when, rate, depth string }{
						{"once", strconv.Itoa(goheap.DefaultRate), "4"}, {"once", "1", "100"}, {"often", "4099", "20"}, {"none", "65536", "20"},
					} {
						t.Run(r.when+" "+r.rate, func(t *testing.T) {
							agreesButFor(t, computed && b.flags != nil, prog, nil, r.when, r.rate, r.depth)
						})
					}
				})
			}
		})
	}
}

func TestGoProgramsThatKeepNoHeapProfile(t *testing.T) {
	t.Parallel()
	for _, b := range []struct {
		name  string
		flags []string
	}{
		{"with symbols", nil},
		{"stripped", []string{"-ldflags=-s -w"}},
	} {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			prog := buildGoHeap(t, nil, append(b.flags, "-tags=unlinked")...)
			p := startGoHeap(t, prog, nil, "once", strconv.Itoa(goheap.DefaultRate), "4")
			if _, err := p.open(); !errors.Is(err, errNoGoHeap) {
				t.Errorf("got %v, want %v", err, errNoGoHeap)
			}
		})
	}
}

// A program that allocates and collects all the time is read as it is at some moment: what
// was allocated only ever becomes more.
func TestGoHeapsThatChangeWhileTheyAreRead(t *testing.T) {
	t.Parallel()
	for _, b := range []struct {
		name  string
		flags []string
	}{
		{"with symbols", nil},
		{"stripped", []string{"-ldflags=-s -w"}},
	} {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			p := startGoHeap(t, buildGoHeap(t, nil, b.flags...), nil, "busy", "256", "30")
			h, err := p.open()
			if err != nil {
				t.Fatal(err)
			}
			type key struct {
				stack string
				size  int64
			}
			most := make(map[key]int64)
			var total int64
			// A collection of the program's changes the profile.
			reads, mixed := 0, 0
			for changes := 0; changes < 30; {
				profile, err := h.Read(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				reads++
				if profile.Mixed {
					if mixed++; mixed > 1000 {
						t.Fatal("it is never read between two collections")
					}
					continue
				}
				var sum int64
				for _, r := range profile.Records {
					k := key{fmt.Sprint(r.Stack), r.Size}
					if r.AllocObjects < most[k] {
						t.Errorf("%d objects of %d bytes of %#x became %d", most[k], r.Size, r.Stack, r.AllocObjects)
					}
					most[k] = r.AllocObjects
					sum += r.AllocObjects
				}
				if sum < total {
					t.Errorf("%d objects became %d", total, sum)
				}
				if sum > total {
					changes++
				}
				total = sum
			}
			t.Logf("%d reads, %d of them mixed, of %d records", reads, mixed, len(most))
			p.written()
		})
	}
}

func TestReadingAGoHeapEndsWithItsContext(t *testing.T) {
	t.Parallel()
	p := startGoHeap(t, buildGoHeap(t, nil, "-ldflags=-s -w"), nil, "once", "1", "4")
	h, err := p.open()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.Read(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}

func TestGoProgramsThatDoNotSample(t *testing.T) {
	t.Parallel()
	for _, b := range []struct {
		name  string
		flags []string
	}{
		{"with symbols", nil},
		{"stripped", []string{"-ldflags=-s -w"}},
	} {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			// From the first allocation on, before main sets the rate.
			env := []string{"GODEBUG=memprofilerate=0"}
			p := startGoHeap(t, buildGoHeap(t, nil, b.flags...), env, "once", "0", "4")
			h, err := p.open()
			if err != nil {
				t.Fatal(err)
			}
			if got, err := h.Read(t.Context()); !errors.Is(err, goheap.ErrOff) {
				t.Errorf("got %v, %v; want %v", got, err, goheap.ErrOff)
			}
		})
	}
}

func TestGoHeapsOfProcessesThatAreGone(t *testing.T) {
	t.Parallel()
	for _, b := range []struct {
		name  string
		flags []string
	}{
		{"with symbols", nil},
		{"stripped", []string{"-ldflags=-s -w"}},
	} {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			p := startGoHeap(t, buildGoHeap(t, nil, b.flags...), nil, "once", "1", "4")
			h, err := p.open()
			if err != nil {
				t.Fatal(err)
			}
			p.killed = true
			if err := p.cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			if _, err := p.cmd.Process.Wait(); err != nil {
				t.Fatal(err)
			}
			if _, err := h.Read(t.Context()); !errors.Is(err, procmaps.ErrGone) {
				t.Errorf("got %v, want %v", err, procmaps.ErrGone)
			}
		})
	}
}
