package stack

import (
	"cmp"
	"debug/elf"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/testdata/tool"
)

// recorded is a sample that testdata/chain.c wrote, and the frames that
// libgcc's unwinder found from inside it.
type recorded struct {
	Sample
	want []uint64
}

// process is what a run of testdata/chain.c left behind.
type process struct {
	samples []recorded
	maps    []mapped
}

type mapped struct {
	start, end uint64
	code       Code
	names      []elf.Symbol
}

// codeAt is what Unwind asks.
func (p *process) codeAt(pc uint64) (Code, bool) {
	if m := p.at(pc); m != nil {
		return m.code, true
	}
	return Code{}, false
}

func (p *process) at(pc uint64) *mapped {
	i, ok := slices.BinarySearchFunc(p.maps, pc, func(m mapped, pc uint64) int {
		switch {
		case m.end <= pc:
			return -1
		case pc < m.start:
			return 1
		}
		return 0
	})
	if !ok {
		return nil
	}
	return &p.maps[i]
}

func (m *mapped) withoutFDE(pc uint64) bool {
	_, _, ok := m.code.Table.Function(pc - m.code.Bias)
	return !ok
}

// name returns the symbol of the program itself around a frame, "-" where
// there is none.
func (p *process) name(f Frame) string {
	pc := f.PC
	if f.Call {
		pc--
	}
	if m := p.at(pc); m != nil {
		for _, s := range m.names {
			if a := pc - m.code.Bias; s.Value <= a && a < s.Value+s.Size {
				name, _, _ := strings.Cut(s.Name, ".")
				return name
			}
		}
	}
	return "-"
}

// nativeArch is what this machine runs.
func nativeArch(tb testing.TB) Arch {
	tb.Helper()
	for _, a := range []Arch{AMD64, ARM64} {
		if a.String() == runtime.GOARCH {
			return a
		}
	}
	tb.Skip("the stacks of this machine are not known")
	return 0
}

// compile builds testdata/chain.c with cc, or skips the test.
func compile(tb testing.TB, cc string, flags ...string) string {
	tb.Helper()
	tool.Need(tb, cc)
	bin := filepath.Join(tb.TempDir(), "chain")
	args := append([]string{"-O2", "-fomit-frame-pointer", "-o", bin}, flags...)
	args = append(args, "testdata/chain.c", "-lpthread")
	if out, err := exec.Command(cc, args...).CombinedOutput(); err != nil {
		tb.Fatalf("%s: %v\n%s", cc, err, out)
	}
	return bin
}

// run runs a case of the program and reads what it wrote.
func run(tb testing.TB, arch Arch, args ...string) *process {
	tb.Helper()
	out := filepath.Join(tb.TempDir(), "samples")
	which := args[len(args)-1]
	args = append(args[:len(args)-1:len(args)-1], out, which)
	if b, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		tb.Fatalf("%v: %v\n%s", args, err, b)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		tb.Fatal(err)
	}
	le := binary.LittleEndian
	next := func() uint64 {
		v := le.Uint64(b)
		b = b[8:]
		return v
	}
	n := next()
	p := &process{maps: readMaps(tb, b[:n])}
	for b = b[n:]; len(b) > 0; {
		r := recorded{}
		r.Regs.Arch = arch
		for i := range r.Regs.R {
			r.Regs.R[i] = next()
		}
		r.Regs.PC, r.Regs.SP = next(), next()
		r.Cut = next() != 0
		n := next()
		r.Stack, b = b[:n], b[n:]
		for range next() {
			r.want = append(r.want, next())
		}
		p.samples = append(p.samples, r)
	}
	if len(p.samples) == 0 {
		tb.Fatalf("%v wrote no sample", args)
	}
	return p
}

// readMaps reads the tables of the executable mappings in a maps file.
func readMaps(tb testing.TB, b []byte) []mapped {
	tb.Helper()
	rows, err := procmaps.ParseMaps(b, "maps")
	if err != nil {
		tb.Fatal(err)
	}
	var maps []mapped
	for i := range rows {
		row := &rows[i]
		if row.Mode&procmaps.Exec == 0 {
			continue
		}
		m := mapped{start: row.Start, end: row.End}
		if row.Name == "" {
			m.code.Rule = RuleSigreturn // qemu has it in a page of its own
		}
		if path := row.Path(); path != "" {
			f, err := elf.Open(path)
			if err != nil {
				tb.Fatal(err)
			}
			for _, s := range f.Progs {
				if s.Type == elf.PT_LOAD && s.Flags&elf.PF_X != 0 && s.Off < row.Offset+(row.End-row.Start) && row.Offset < s.Off+s.Filesz {
					m.code = Code{Rule: RuleCFI, Table: readTable(tb, path), Bias: row.Start - row.Offset + s.Off - s.Vaddr}
				}
			}
			if strings.HasSuffix(path, "/chain") {
				m.names, _ = f.Symbols()
				m.names = slices.DeleteFunc(m.names, func(s elf.Symbol) bool { return elf.ST_TYPE(s.Info) != elf.STT_FUNC })
			}
			f.Close()
		}
		maps = append(maps, m)
	}
	slices.SortFunc(maps, func(a, b mapped) int { return cmp.Compare(a.start, b.start) })
	return maps
}

// pcs returns the addresses of frames.
func pcs(frames []Frame) []uint64 {
	out := make([]uint64, len(frames))
	for i, f := range frames {
		out[i] = f.PC
	}
	return out
}

// The chain of functions behind recurse, which calls itself n times.
func chain(n int, outer ...string) []string {
	names := []string{"capture", "small", "saves_many", "variable", "realigned"}
	for range n + 1 {
		names = append(names, "recurse")
	}
	return append(names, outer...)
}

// What is behind main: libc's two functions, and the start.
var behindMain = []string{"main", "-", "-", "_start"}

func TestARealStackIsUnwoundAsLibgccDoesIt(t *testing.T) {
	builds := []struct {
		name  string
		cc    string
		flags []string
	}{
		{"gcc", "gcc", nil},
		{"gcc -static", "gcc", []string{"-static"}},
		{"gcc -O0", "gcc", []string{"-O0"}},
		{"gcc without PIE", "gcc", []string{"-no-pie"}},
		{"clang", "clang", nil},
	}
	for _, build := range builds {
		t.Run(build.name, func(t *testing.T) {
			t.Parallel()
			bin := compile(t, build.cc, build.flags...)
			realStacks(t, nativeArch(t), build.name == "gcc", bin)
		})
	}
}

// realStacks runs every case of the program and compares all samples.
func realStacks(t *testing.T, arch Arch, names bool, bin ...string) {
	t.Helper()
	cases := []struct {
		name  string
		end   End
		inner int // frames of libgcc's that the sample does not have
		names []string
	}{
		{name: "plain", names: chain(3, behindMain...)},
		{name: "deep", names: chain(300, behindMain...)},
		{name: "cut", end: EndTruncated},
		{name: "library", names: chain(2, append([]string{"compare", "-", "-", "-", "through_library"}, behindMain...)...)},
		{name: "signal", names: nil},
		{name: "altstack", end: EndTruncated},
		{name: "fault", inner: 2, names: append([]string{"faults"}, behindMain...)},
		{name: "thread", names: chain(2, "thread", "-", "-")},
		{name: "step", inner: 2},
	}
	var u Unwinder
	for _, c := range cases {
		if c.name == "step" && arch != AMD64 {
			continue
		}
		p := run(t, arch, append(slices.Clip(bin), c.name)...)
		for i := range p.samples {
			s := &p.samples[i]
			frames, end := u.Unwind(&s.Sample, p.codeAt, nil)
			got, want := pcs(frames), s.want[c.inner:]
			if c.inner == 0 {
				// libgcc's call is before the sample was taken.
				got, want = got[1:], want[1:]
			}
			wantEnd := cmp.Or(c.end, EndRoot)
			if p.at(s.Regs.PC).withoutFDE(s.Regs.PC) {
				// The PLT of a static program. libgcc ends there as well.
				wantEnd = EndNoFDE
			}
			if c.end == EndTruncated {
				want = want[:min(len(want), len(got))]
			}
			if diff := gocmp.Diff(want, got); diff != "" || end != wantEnd {
				t.Errorf("%s, sample %d of %d at %#x: the walk ends with %v, want %v; libgcc's frames and ours:\n%s",
					c.name, i, len(p.samples), s.Regs.PC, end, wantEnd, diff)
				break
			}
			if c.names == nil || i > 0 || !names {
				continue
			}
			var have []string
			for _, f := range frames {
				have = append(have, p.name(f))
			}
			if diff := gocmp.Diff(c.names, have); diff != "" {
				t.Errorf("%s: the functions differ:\n%s", c.name, diff)
			}
		}
		t.Logf("%s: %d samples", c.name, len(p.samples))
	}
}

// libgcc ends at the null pointer, so the frames are compared by name.
func TestTheCallerOfANullPointerIsFound(t *testing.T) {
	t.Parallel()
	p := run(t, nativeArch(t), compile(t, "gcc"), "null")
	var u Unwinder
	frames, end := u.Unwind(&p.samples[0].Sample, p.codeAt, nil)
	var have []string
	for _, f := range frames {
		have = append(have, p.name(f))
	}
	want := chain(int(syscall.SIGSEGV)&1, append([]string{"on_null", "-", "calls_null"}, behindMain...)...)
	if diff := gocmp.Diff(want, have); diff != "" || end != EndRoot {
		t.Errorf("the walk ends with %v; the functions differ:\n%s", end, diff)
	}
}

func TestACutStackKeepsItsInnermostFrames(t *testing.T) {
	p := run(t, nativeArch(t), compile(t, "gcc"), "cut")
	var u Unwinder
	frames, end := u.Unwind(&p.samples[0].Sample, p.codeAt, nil)
	if end != EndTruncated || len(frames) < 20 {
		t.Errorf("%d frames, %v; want at least 20, truncated", len(frames), end)
	}
}

func TestARealStackOfArm64IsUnwoundAsLibgccDoesIt(t *testing.T) {
	t.Parallel()
	const signs = "-mbranch-protection=standard"
	const root = "/usr/aarch64-linux-gnu" // of Debian's libc6-dev-arm64-cross
	tool.Need(t, "qemu-aarch64")
	for _, flags := range [][]string{nil, {"-static"}, {signs}} {
		bin := compile(t, "aarch64-linux-gnu-gcc", flags...)
		args := []string{"qemu-aarch64", "-cpu", "max", "-L", root, bin}
		realStacks(t, ARM64, flags == nil, args...)
		if signed := slices.Contains(flags, signs); signed != hasSignatures(run(t, ARM64, append(args, "plain")...)) {
			t.Errorf("with %v, return addresses are signed: %v", flags, !signed)
		}
	}
}

// hasSignatures reports whether a return address on the stack has more bits
// than an address.
func hasSignatures(p *process) bool {
	s := &p.samples[0]
	for b := s.Stack; len(b) >= 8; b = b[8:] {
		if v := binary.LittleEndian.Uint64(b); v >= defaultTop && slices.Contains(s.want, v&(defaultTop-1)) {
			return true
		}
	}
	return false
}

func TestTheVDSOHasATable(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	rows, err := procmaps.ParseMaps(b, "maps")
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(rows, func(m procmaps.Mapping) bool { return m.Name == "[vdso]" })
	if i < 0 || nativeArch(t) != AMD64 {
		t.Skip("there is no vdso with call frame information here")
	}
	mem, err := os.Open("/proc/self/mem")
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	vdso := make([]byte, rows[i].End-rows[i].Start)
	if _, err = mem.ReadAt(vdso, int64(rows[i].Start)); err != nil {
		t.Fatal(err)
	}
	checkTable(t, mustTable(t, vdso))
}

// What the samples of a process cost: a C program, 17 frames deep.
func BenchmarkUnwind(b *testing.B) {
	p := run(b, nativeArch(b), compile(b, "gcc"), "library")
	for _, bb := range []struct {
		name  string
		fresh bool
	}{{"remembered", false}, {"cold", true}} {
		b.Run(bb.name, func(b *testing.B) {
			var u Unwinder
			var frames []Frame
			s := &p.samples[0].Sample
			b.ReportAllocs()
			for b.Loop() {
				if bb.fresh {
					clear(u.cache)
				}
				frames, _ = u.Unwind(s, p.codeAt, frames[:0])
			}
			b.ReportMetric(float64(len(frames)), "frames")
		})
	}
}
