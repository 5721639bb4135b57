package symbol

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/maptrace/maptrace/testdata/tool"
)

// need skips a test on a machine that lacks a program.
func need(tb testing.TB, programs ...string) {
	tb.Helper()
	for _, p := range programs {
		tool.Need(tb, p)
	}
}

// run runs a program and returns what it prints.
func run(tb testing.TB, stdin string, argv ...string) string {
	tb.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdin = strings.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		tb.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, stderr.Bytes())
	}
	return string(out)
}

// compile builds testdata/NAME and returns the path of the program.
func compile(tb testing.TB, source string, flags ...string) string {
	tb.Helper()
	compiler := "gcc"
	if strings.HasSuffix(source, ".cc") {
		compiler = "g++"
	}
	need(tb, compiler, "nm", "addr2line", "objcopy", "strip")
	src, err := filepath.Abs(filepath.Join("testdata", source))
	if err != nil {
		tb.Fatal(err)
	}
	out := filepath.Join(tb.TempDir(), "prog")
	run(tb, "", append([]string{compiler, "-o", out, src}, flags...)...)
	return out
}

// open reads a module of a file, which looks for debug files as if a process of
// this machine had mapped it.
func open(tb testing.TB, file string) *Module {
	tb.Helper()
	f, err := os.Open(file)
	if err != nil {
		tb.Fatal(err)
	}
	info, err := f.Stat()
	if err != nil {
		tb.Fatal(err)
	}
	m, err := ReadModule(f, info.Size(), Options{Debug: debugFiles(os.Getpid(), file), Account: reads(1<<50).Of("process", 1)})
	if err != nil {
		tb.Fatalf("ReadModule(%s): %v", file, err)
	}
	tb.Cleanup(func() {
		if err := m.Close(); err != nil {
			tb.Error(err)
		}
		f.Close()
	})
	return m
}

// nmSymbol is a line of nm.
type nmSymbol struct {
	start, size uint64
	name        string
}

// nm lists the functions that have a size.
func nm(tb testing.TB, file string, flags ...string) []nmSymbol {
	tb.Helper()
	out := run(tb, "", append(append([]string{"nm", "-S", "--defined-only"}, flags...), file)...)
	var all []nmSymbol
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) != 4 || !strings.Contains("tTwWi", f[2]) {
			continue
		}
		start, err1 := strconv.ParseUint(f[0], 16, 64)
		size, err2 := strconv.ParseUint(f[1], 16, 64)
		if err1 != nil || err2 != nil {
			tb.Fatalf("nm: %q", line)
		}
		name, _, _ := strings.Cut(f[3], "@")
		if size > 0 {
			all = append(all, nmSymbol{start, size, name})
		}
	}
	return all
}

// checkNames compares what the module says with nm, at the first, the middle and
// the last byte of the symbols, which are some of all that nm lists.
func checkNames(t *testing.T, m *Module, symbols, all []nmSymbol, from Source) {
	t.Helper()
	if len(symbols) == 0 {
		t.Fatal("nm lists no function")
	}
	at := make(map[uint64][]string)
	for _, s := range all {
		at[s.start] = append(at[s.start], s.name)
	}
	checked, wrong := 0, 0
	for _, s := range symbols {
		for _, addr := range []uint64{s.start, s.start + s.size/2, s.start + s.size - 1} {
			fn, ok := m.Function(addr)
			checked++
			// A function may hold another: then its start is another line of nm.
			if ok && fn.From == from && fn.Start >= s.start && addr-fn.Start < fn.Size &&
				slices.Contains(at[fn.Start], fn.Linkage) && fn.Name == demangled(fn.Linkage) {
				continue
			}
			if wrong++; wrong <= 10 {
				t.Errorf("Function(%#x) = %+v, %v; nm says %s at %#x, %d bytes", addr, fn, ok, s.name, s.start, s.size)
			}
		}
	}
	t.Logf("%d of %d addresses are named as by nm", checked-wrong, checked)
}

// addr2line returns the lines at each address, innermost first.
func addr2line(tb testing.TB, file string, addrs []uint64) [][]Line {
	tb.Helper()
	var in strings.Builder
	for _, a := range addrs {
		fmt.Fprintf(&in, "%#x\n", a)
	}
	out := run(tb, in.String(), "addr2line", "-a", "-f", "-i", "-e", file)
	var all [][]Line
	sc := bufio.NewScanner(strings.NewReader(out))
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		text := sc.Text()
		if strings.HasPrefix(text, "0x") {
			all = append(all, nil)
			continue
		}
		l := Line{Function: text}
		if !sc.Scan() {
			tb.Fatal("addr2line: odd number of lines")
		}
		place, _, _ := strings.Cut(sc.Text(), " (discriminator")
		i := strings.LastIndexByte(place, ':')
		l.File = place[:i]
		l.Line, _ = strconv.Atoi(place[i+1:]) // it prints ? for none
		if l.File == "??" {
			l.File = ""
		} else {
			l.File = path.Clean(l.File)
		}
		all[len(all)-1] = append(all[len(all)-1], l)
	}
	return all
}

// checkLines compares lines with those of addr2line at all addresses, and returns
// the share that agree. A function may have any of the names that nm has for it.
func checkLines(t *testing.T, m *Module, file string, all []nmSymbol, addrs []uint64) float64 {
	t.Helper()
	at := make(map[string]uint64)
	for _, s := range all {
		at[demangled(s.name)] = s.start
	}
	sameName := func(got, want string) bool {
		want = strings.TrimPrefix(want, "__GI_") // the C library's names for its own use
		return got == want || at[got] != 0 && at[got] == at[want]
	}
	want := addr2line(t, file, addrs)
	if len(want) != len(addrs) {
		t.Fatalf("addr2line answers %d of %d", len(want), len(addrs))
	}
	good, deep, shown := 0, 0, 0
	for i, w := range want {
		got := m.Lines(addrs[i], nil)
		same := len(got) == len(w)
		for k := range w {
			same = same && sameName(got[k].Function, demangled(w[k].Function)) && got[k].Line == w[k].Line && (w[k].Line == 0 || got[k].File == w[k].File)
		}
		if len(w) == 1 && w[0].Line == 0 {
			same = len(got) == 0 || got[0].Line == 0
		}
		if same {
			good++
		} else if shown++; shown <= 8 {
			t.Logf("Lines(%#x) = %+v\naddr2line says %+v", addrs[i], got, w)
		}
		if len(w) > 1 {
			deep++
		}
	}
	t.Logf("%d of %d addresses as by addr2line; %d are in inlined calls", good, len(addrs), deep)
	if deep == 0 {
		t.Error("no address is in an inlined call: that tests nothing")
	}
	return float64(good) / float64(len(addrs))
}

// addresses returns every step-th address in functions.
func addresses(symbols []nmSymbol, step uint64, most int) []uint64 {
	var all []uint64
	for _, s := range symbols {
		for a := s.start; a < s.start+s.size && len(all) < most; a += step {
			all = append(all, a)
		}
	}
	return all
}
