package main

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/maptrace/maptrace/cmd/maptrace/internal/getopt"
	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/procmaps/table"
)

func TestPmapOperands(t *testing.T) {
	tests := []struct {
		word     string
		pid      int
		skip, ok bool
	}{
		{"1", 1, false, true},
		{"010", 8, false, true},
		{"0x1f", 31, false, true},
		{"0X1F", 31, false, true},
		{"2147483647", 2147483647, false, true},
		{"/proc/12", 12, false, true},
		{"/proc/self", 0, true, true},
		{"/proc/", 0, true, true},
		{"0", 0, false, false},
		{"2147483648", 2147483648, false, false},
		{"99999999999999999999", -1, false, false},
		{"09", 0, false, false},
		{"0x", 0, false, false},
		{"1_0", 0, false, false},
		{"12/", 0, false, false},
		{"/proc/12/", 0, false, false},
		{"-1", 0, true, false},
		{"", 0, true, false},
		{"self", 0, true, false},
	}
	for _, tt := range tests {
		pid, skip, ok := pmapOperand(tt.word)
		if ok != tt.ok || skip != tt.skip || ok && pid != tt.pid {
			t.Errorf("%q is %d, %v, %v; want %d, %v, %v", tt.word, pid, skip, ok, tt.pid, tt.skip, tt.ok)
		}
	}
}

// What pmap 4.0.2 does was seen by running it.
func TestPmapArguments(t *testing.T) {
	const usage = "usage"
	tests := []struct{ name, args, want string }{
		{"nothing", "", usage},
		{"nothing but a version", "--compat 4.0.2", usage},
		{"a word", "x", usage},
		{"a word after a process", "1 x", usage},
		{"an unknown letter", "-z 1", "invalid option -- 'z'; " + usage},
		{"an unknown name", "--zoo 1", "unrecognized option '--zoo'; " + usage},
		{"no process", "-q", "argument missing"},
		{"no process that has a number", "/proc/self", "library failed pids statistics"},
		{"two tables", "-x -d 1", "options -c, -C, -d, -n, -N, -x, -X are mutually exclusive"},
		{"one table twice is no mistake", "-x -x 1", ""},
		{"two tables without a process", "-xX", "options -c, -C, -d, -n, -N, -x, -X are mutually exclusive"},
		{"a file to create, quietly", "-nq", "options -p, -q are mutually exclusive with -n, -N"},
		{"a file to create, and a process", "-N f 1", "too many arguments"},
		{"a bad range comes first", "-A zz -x -d", "failed to parse argument: 'zz'"},
		{"a question comes before the mistakes after it", "-V -z", "answered"},
		{"and after those before it", "-z -V", "invalid option -- 'z'; " + usage},
		{"SunOS' option", "-r 1", "option -r is ignored as SunOS compatibility; "},
		{"a name cut short that only we could take otherwise", "--h", "answered"},
		{"-k of a version that has none", "-k --compat 4.0.2 1", "invalid option -- 'k'; " + usage},
		{"its long name", "--compat=4.0.2 --use-kernel-name 1", "unrecognized option '--use-kernel-name'; " + usage},
		{"a version nobody knows", "--compat 3 1", `--compat "3": want 4.0.2 or 4.0.7`},
		{"two forms", "--json --csv 1", "--json and --csv are mutually exclusive"},
		{"a form of all tables and a table", "--json -x 1", "--json and --csv have the columns of all tables: leave out -c, -C, -d, -x, -X"},
		{"units for programs", "--csv --human 1", "--human is for people, --json and --csv for programs"},
		{"groups of a table", "--group kind -X 1", "--group has columns of its own: leave out -c, -C, -d, -x, -X"},
		{"groups of nothing", "--group x 1", `--group "x": want kind, path, mode`},
		{"a kind nobody knows", "--kind heap,x 1", `kind "x": want anon, file, heap, stack, shm or special`},
		{"no rows", "--top 0 1", `--top "0": want a number above 0`},
		{"no time", "--watch 0 1", `--watch "0": want a time from 10ms to 1000000s, as 2 (seconds), 500ms or 1m`},
		{"not a number of seconds", "--watch nan 1", `--watch "nan": want a time from 10ms to 1000000s, as 2 (seconds), 500ms or 1m`},
		{"changes of what is not watched", "--changed 1", "--changed, --count and --for go with --watch"},
		{"a table to watch", "--watch 1 -x 1", "--watch has columns of its own: leave out -c, -C, -d, -x, -X"},
		{"groups to watch", "--watch 1 --group kind 1", "--watch and --group are mutually exclusive"},
		{"values to watch", "--watch 1 --csv 1", "--watch prints tables, or with --json objects, not --csv"},
		{"changed objects", "--watch 1 --json --changed 1", "--changed is for tables: objects of --json are whole"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got string
			_, err := parsePmap(strings.Fields(tt.args), func(msg string) { got += msg + "; " })
			var mistake *getopt.Error
			switch {
			case errors.As(err, &mistake):
				got += mistake.Reason + "; " + usage
			case errors.Is(err, errPmapUsage):
				got += usage
			case err != nil:
				got += err.Error()
			}
			if got != tt.want {
				t.Errorf("%q: %q, want %q", tt.args, got, tt.want)
			}
		})
	}
}

func TestPmapArgumentsAreKept(t *testing.T) {
	got, err := parsePmap(strings.Fields("1 -qpk /proc/0x10 -A 10,20 --sort RSS --top=3 --kind anon,heap -- 1"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(got.pids, []int{1, 16, 1}); diff != "" {
		t.Error(diff)
	}
	want := table.Selection{By: "rss", Top: 3, Kinds: []procmaps.Kind{procmaps.KindAnon, procmaps.KindHeap}}
	if diff := cmp.Diff(got.selection, want); diff != "" {
		t.Error(diff)
	}
	if !got.quiet || !got.path || !got.kernel || *got.limit != (table.Limit{Low: 0x10, High: 0x20}) || got.layout() != table.LayoutDefault {
		t.Errorf("got %+v", got)
	}
	for args, want := range map[string]table.Layout{
		"-x 1": table.LayoutExtended, "-d 1": table.LayoutDevice, "-X 1": table.LayoutDetails,
		"-XX 1": table.LayoutAll, "-X -qX -X 1": table.LayoutAll, "-c 1": table.LayoutFields, "-C f 1": table.LayoutFields,
	} {
		o, err := parsePmap(strings.Fields(args), nil)
		if err != nil || o.layout() != want {
			t.Errorf("%s: layout %d, %v; want %d", args, o.layout(), err, want)
		}
	}
}

// The warnings, and what counts in spite of them, are those of pmap 4.0.2.
func TestParseRC(t *testing.T) {
	long := strings.Repeat("x", 1023)
	tests := []struct{ name, text, fields, warnings string }{
		{"the template asks for nothing", rcTemplate, "", ""},
		{"comments and spaces", "[Fields Display]#c\nRss#c\n \tSize # c\n# Perm\n\n", "Rss#c Size", ""},
		{"a field beside its section", "[Fields Display] Rss\nPss\n", "Pss Rss", "syntax error found in the config - line 1"},
		{"what follows a NUL is not seen", "[Fields Display]\nRss\x00x y\n", "Rss", ""},
		{"a section with spaces around", " [Fields Display] \t# c\nRss", "Rss", ""},
		{"a word after a section", "[Fields Display]x\nRss\n", "Rss x", "syntax error found in the config - line 1"},
		{"a section that is not closed", "[Fields Display\nRss\n", "", "syntax error found in the config - line 1; syntax error found in the config - line 2"},
		{"an unknown section", "[Fields  Display]\nRss\n[Fields Display]\nPss\n", "Pss", "unsupported section found in the config - line 1"},
		{"no section", "Rss\n", "", "syntax error found in the config - line 1"},
		{"two words", "[Fields Display]\nRss Pss\n", "Rss", "syntax error found in the config - line 2"},
		{"a carriage return is a part of the word", "[Fields Display]\nRss\r\n", "Rss\r", ""},
		{"paths", "[Mapping]\nFoo\nShowPath\n", "ShowPath", ""},
		{"paths twice", "[Mapping]\nShowPath x\nShowPath\n", "", "syntax error found in the config - line 2"},
		{"a line as long as may be", "[Fields Display]\n" + long + "\nRss\n", "Rss " + long, ""},
		{"a longer line", "[Fields Display]\n#" + long + "\nRss\n", "Rss", "config line too long - line 2"},
		{"the beginning of a longer line", "[Fields Display]\n" + long[:1020] + " Rss x\n", long[:1020], "config line too long - line 2; syntax error found in the config - line 2"},
		{"a line of many buffers", "[Fields Display]\n" + long + long + long + "\nRss\n", "Rss " + long + "x", "config line too long - line 2"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var warnings []string
			rc, err := parseRC(strings.NewReader(tt.text), func(msg string) { warnings = append(warnings, msg) })
			if err != nil {
				t.Fatal(err)
			}
			var fields []string
			for f := range rc.fields {
				fields = append(fields, f)
			}
			if rc.togglePath {
				fields = append(fields, "ShowPath")
			}
			slices.Sort(fields)
			if got := strings.Join(fields, " "); got != tt.fields {
				t.Errorf("fields %q, want %q", got, tt.fields)
			}
			if got := strings.Join(warnings, "; "); got != tt.warnings {
				t.Errorf("warnings %q, want %q", got, tt.warnings)
			}
		})
	}
}

func FuzzParseRC(f *testing.F) {
	f.Add(rcTemplate)
	f.Add("[Mapping]x\nShowPath y\n[\n" + strings.Repeat("z", 3000))
	f.Fuzz(func(t *testing.T, text string) {
		lines := strings.Count(text, "\n") + 1
		rc, err := parseRC(strings.NewReader(text), func(msg string) {
			var n int
			if _, err := fmt.Sscanf(msg[strings.LastIndexByte(msg, ' '):], "%d", &n); err != nil || n < 1 || n > lines {
				t.Errorf("warning about a line of %d that is not there: %q", lines, msg)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		for word := range rc.fields {
			if word == "" || strings.ContainsAny(word, " \t\n\x00") || word[0] == '#' || len(word) > 1024 || !strings.Contains(text, word) {
				t.Errorf("field %q", word)
			}
		}
	})
}

func TestPmapRC(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	self := fmt.Sprint(os.Getpid())
	check := func(code exitCode, stderr string, args ...string) result {
		t.Helper()
		r := inProcess(t, append([]string{"pmap"}, args...)...)
		if r.code != code || r.stderr != stderr {
			t.Errorf("%v: code %d, %q; want %d, %q", args, r.code, r.stderr, code, stderr)
		}
		return r
	}
	check(1, "pmap: couldn't read ~/.pmaprc\n", "-c", self)
	check(0, "pmap: ~/.pmaprc file successfully created, feel free to edit the content\n", "-n")
	check(1, "pmap: the file already exists - delete or rename it first\npmap: couldn't create ~/.pmaprc\n", "-n")
	file := filepath.Join(home, "f")
	check(0, "pmap: rc file successfully created, feel free to edit the content\n", "-N", file)
	if got, err := os.ReadFile(file); err != nil || string(got) != rcTemplate {
		t.Errorf("wrote %q, %v", got, err)
	}
	check(1, "pmap: couldn't create the rc file\n", "-N", filepath.Join(home, "no", "f"))
	check(1, "pmap: couldn't read the rc file\n", "-C", home, self)
	if err := os.WriteFile(file, []byte("[Fields Display]\nMapping\nRss\n[Mapping]\nShowPath\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// ShowPath asks for paths; with -p, it asks for none.
	if r := check(0, "", "-C", file, self); !strings.Contains(r.out, " Rss Mapping\n") || !strings.Contains(r.out, " "+exe+"\n") {
		t.Errorf("no paths:\n%s", r.out)
	}
	if r := check(0, "", "-pC", file, self); strings.Contains(r.out, " "+exe+"\n") || !strings.Contains(r.out, " "+filepath.Base(exe)+"\n") {
		t.Errorf("paths:\n%s", r.out)
	}
	os.Unsetenv("HOME")
	check(1, "pmap: HOME variable undefined\n", "-n")
}

func TestUTF8Locale(t *testing.T) {
	for env, want := range map[string]bool{
		"": false, "LANG=C": false, "LANG=en_US.UTF-8": true, "LC_CTYPE=de_DE.utf8@euro": true, "LC_ALL=C LANG=C.UTF-8": false,
		"LC_ALL=C.UTF-8 LANG=C": true, "LC_CTYPE=C LANG=C.UTF-8": false, "LANG=de_DE.ISO-8859-1": false,
	} {
		got := utf8Locale(func(name string) string {
			for word := range strings.FieldsSeq(env) {
				if v, ok := strings.CutPrefix(word, name+"="); ok {
					return v
				}
			}
			return ""
		})
		if got != want {
			t.Errorf("%q: %v, want %v", env, got, want)
		}
	}
}

// watchTotals are the last lines of the tables of --watch.
func watchTotals(out string) []string {
	var totals []string
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line, "total ") {
			totals = append(totals, line)
		}
	}
	return totals
}

func TestPmapWatchTellsWhatChanged(t *testing.T) {
	t.Parallel()
	h := startHelper(t, "calls", filepath.Join(t.TempDir(), "calls"))
	h.signal(syscall.SIGSTOP) // nothing changes but what others map too
	r := maptrace(t, "pmap", "--watch", "0.05", "--count", "3", "--kind", "anon", h.pid())
	if r.code != exitOK || r.stderr != "" {
		t.Fatalf("got %+v", r)
	}
	totals := watchTotals(r.out)
	if len(totals) != 3 || strings.Count(totals[2], " - ") != 4 {
		t.Errorf("want three tables, and no change in the third: %q", totals)
	}
	if !strings.Contains(r.out, "Address ") || !strings.HasPrefix(r.out, h.pid()+":   ") {
		t.Errorf("no heading:\n%s", r.out)
	}
	r = maptrace(t, "pmap", "--watch", "0.05", "--count", "2", "--changed", "--kind", "anon", h.pid())
	if rows := strings.Count(r.out, " rw-"); r.code != exitOK || rows != 0 {
		t.Errorf("rows that did not change:\n%s", r.out)
	}
}

// watching starts a watch and waits for the first table.
func watching(t *testing.T, args ...string) (p *process, tables func() int) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out")
	f, err := os.Create(out)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cmd := exec.Command(binary(t), append([]string{"pmap", "--watch"}, args...)...)
	cmd.Stdout = f
	p = launch(t, cmd)
	tables = func() int {
		b, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		return len(watchTotals(string(b)))
	}
	eventually(t, "a table", func() bool { return tables() > 0 })
	return p, tables
}

func TestPmapEndsAfterATimeAndWritesToAFile(t *testing.T) {
	t.Parallel()
	h := startHelper(t, "calls", "/dev/null")
	file := filepath.Join(t.TempDir(), "tables")
	r := succeed(t, maptrace(t, "pmap", "--watch", "50ms", "--for", "0.5s", "--to", file, "--json", h.pid()))
	text, err := os.ReadFile(file)
	if n := strings.Count(string(text), "\n"); err != nil || r.out != "" || n < 2 || n > 11 {
		t.Errorf("%v, %d objects, and %q", err, n, r.out)
	}
	r = maptrace(t, "pmap", "--to", "/no/such/place", h.pid())
	if r.code != exitError || r.out != "" {
		t.Errorf("exit code %d, %q", r.code, r.out)
	}
	checkOneLine(t, r.stderr, "open /no/such/place: no such file or directory")
}

func TestPmapWatchEndsWithTheProcess(t *testing.T) {
	t.Parallel()
	h := startHelper(t, "calls", filepath.Join(t.TempDir(), "calls"))
	p, tables := watching(t, "0.02", h.pid())
	eventually(t, "two tables", func() bool { return tables() >= 2 })
	h.signal(syscall.SIGKILL)
	if r := p.result(); r.code != exitOK || !strings.Contains(r.stderr, "pmap: process "+h.pid()+": ") {
		t.Errorf("got %+v", r)
	}
}

func TestPmapWatchEndsAtASignal(t *testing.T) {
	t.Parallel()
	p, tables := watching(t, "1000", strconv.Itoa(os.Getpid()))
	p.signal(syscall.SIGTERM)
	if r := p.result(); r.code != exitOK || r.stderr != "" || tables() != 1 {
		t.Errorf("after %d tables: %+v", tables(), r)
	}
}

// object is what --json prints of a process.
type object struct {
	Time       time.Time
	PID        int
	Command    string
	Regions    []map[string]any
	Groups     []map[string]any
	Totals     map[string]float64
	PageTables float64 `json:"page_tables_kb"`
}

func decodeObject(t *testing.T, r result) object {
	t.Helper()
	if r.code != exitOK || r.stderr != "" {
		t.Fatalf("got %+v", r)
	}
	var o object
	if err := json.Unmarshal([]byte(r.out), &o); err != nil {
		t.Fatalf("%v in %q", err, r.out)
	}
	return o
}

func TestPmapJSONHoldsAllThatSmapsHas(t *testing.T) {
	t.Parallel()
	h := startHelper(t, "calls", filepath.Join(t.TempDir(), "calls"))
	h.signal(syscall.SIGSTOP)
	o := decodeObject(t, inProcess(t, "pmap", "--json", h.pid()))
	p, err := procmaps.Default().Process(h.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	smaps, err := p.Smaps()
	if err != nil {
		t.Fatal(err)
	}
	if o.PID != h.Process.Pid || time.Since(o.Time) > bound || len(o.Regions) != len(smaps.Rows) {
		t.Fatalf("pid %d at %v with %d regions, want %d with %d", o.PID, o.Time, len(o.Regions), h.Process.Pid, len(smaps.Rows))
	}
	sums := map[string]float64{}
	for i := range smaps.Rows {
		row, got := &smaps.Rows[i], o.Regions[i]
		if got["address"] != fmt.Sprintf("%#x", row.Start) || got["size"] != float64(row.Len()) ||
			got["mode"] != row.Mode.String() || got["mapping"] != row.Name || got["vmflags"] != row.Flags.String() {
			t.Errorf("region %v, want %v", got, row)
		}
		for _, k := range smaps.Keys {
			name := strings.ToLower(k.Name)
			if k.KB {
				name += "_kb"
			}
			if _, ok := got[name]; !ok {
				t.Errorf("%v lacks %s", row, name)
			}
		}
		for name, v := range got {
			if n, ok := v.(float64); ok {
				sums[name] += n
			}
		}
	}
	for _, name := range []string{"size", "rss_kb", "swap_kb", "reserved_kb", "committed_kb"} {
		if got, ok := o.Totals[name]; !ok || got != sums[name] {
			t.Errorf("total %s is %v, want %v", name, got, sums[name])
		}
	}
	if _, ok := o.Totals["kernelpagesize_kb"]; ok {
		t.Error("page sizes were added up")
	}
}

func TestPmapSelections(t *testing.T) {
	t.Parallel()
	h := startHelper(t, "calls", filepath.Join(t.TempDir(), "calls"))
	h.signal(syscall.SIGSTOP)
	all := decodeObject(t, inProcess(t, "pmap", "--json", h.pid()))
	some := decodeObject(t, inProcess(t, "pmap", "--json", "--sort", "rss", "--top", "3", "--kind", "file", h.pid()))
	if len(some.Regions) != 3 {
		t.Fatalf("%d regions, want 3", len(some.Regions))
	}
	last := math.Inf(1)
	for _, r := range some.Regions {
		if r["kind"] != "file" || r["rss_kb"].(float64) > last {
			t.Errorf("after %v KiB: %v", last, r)
		}
		last = r["rss_kb"].(float64)
	}
	groups := decodeObject(t, inProcess(t, "pmap", "--json", "--group", "kind", h.pid()))
	if groups.PageTables < 4 || groups.PageTables > groups.Totals["rss_kb"] {
		t.Errorf("page tables of %v KiB", groups.PageTables)
	}
	rows, size := 0.0, 0.0
	for _, g := range groups.Groups {
		rows += g["rows"].(float64)
		size += g["size_kb"].(float64)
	}
	if int(rows) != len(all.Regions) || size*1024 != all.Totals["size"] {
		t.Errorf("groups have %v rows of %v KiB, want %d of %v bytes", rows, size, len(all.Regions), all.Totals["size"])
	}
	// The Go runtime reserves more than it will ever use.
	if groups.Totals["reserved_kb"] < 1024 {
		t.Errorf("reserved: %v", groups.Totals)
	}
	r := inProcess(t, "pmap", "--csv", h.pid())
	records, err := csv.NewReader(strings.NewReader(r.out)).ReadAll()
	if err != nil || len(records) != len(all.Regions)+1 {
		t.Errorf("%d records, %v; want %d", len(records), err, len(all.Regions)+1)
	}
	r = inProcess(t, "pmap", "-x", "--sort", "nothing", h.pid())
	if r.code != exitError {
		t.Errorf("exit code %d, want %d", r.code, exitError)
	}
	checkOneLine(t, r.stderr, `pmap: sort key "nothing": want one of `)
}
