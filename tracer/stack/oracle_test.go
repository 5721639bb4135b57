package stack

import (
	"bufio"
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/go-delve/delve/pkg/dwarf/frame"

	"github.com/maptrace/maptrace/testdata/tool"
)

// elfFiles returns the ELF files of this system that ReadTable is for: all of
// them with MAPTRACE_LONG=1, else about 60, among them the ones of most
// interest.
func elfFiles(t *testing.T) []string {
	t.Helper()
	var all []string
	seen := make(map[string]bool)
	add := func(path string) {
		if real, err := filepath.EvalSymlinks(path); err == nil && !seen[real] && readable(real) {
			seen[real] = true
			all = append(all, real)
		}
	}
	for _, pattern := range []string{
		"/lib*/*/libc.so.6", "/lib*/ld-linux-*", "/lib*/*/ld-linux-*", "/usr/lib/*/libstdc++.so.6",
		"/usr/bin/node", "/usr/bin/python3", "/usr/bin/bash", "/usr/lib/jvm/*/lib/server/libjvm.so",
	} {
		names, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names[:min(len(names), 1)] {
			add(name)
		}
	}
	long := os.Getenv("MAPTRACE_LONG") == "1"
	dirs := []string{"/usr/bin", "/usr/lib"}
	if long {
		dirs = append(dirs, "/usr/sbin", "/usr/local", "/usr/libexec", "/opt")
	}
	n := 0
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			if err != nil || !e.Type().IsRegular() {
				return nil //nolint:nilerr // what cannot be looked at is not compared
			}
			if info, err := e.Info(); err != nil || !long && info.Size() > 4<<20 || info.Size() < 4096 {
				return nil //nolint:nilerr // as above
			}
			// One in many, but always the same.
			if n++; long || n%600 == 0 || n%7 == 0 && len(all) < 50 && strings.HasPrefix(dir, "/usr/bin") {
				add(path)
			}
			if !long && len(all) >= 60 {
				return fs.SkipAll
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(all) == 0 {
		t.Skip("there are no ELF files here")
	}
	return all
}

// readable reports whether ReadTable is for the file, by its first bytes.
func readable(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	var h [20]byte
	if _, err := io.ReadFull(f, h[:]); err != nil || string(h[:6]) != "\x7fELF\x02\x01" {
		return false
	}
	typ, machine := elf.Type(h[16]), elf.Machine(binary.LittleEndian.Uint16(h[18:]))
	return (typ == elf.ET_DYN || typ == elf.ET_EXEC) && (machine == elf.EM_X86_64 || machine == elf.EM_AARCH64)
}

// tableOf reads a table; nil is for a file without one.
func tableOf(t *testing.T, path string) *Table {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	tab, err := ReadTable(f, fi.Size(), nil)
	if err != nil && !errors.Is(err, ErrNoTable) {
		t.Errorf("%s: %v", path, err)
	}
	return tab
}

// agreement counts what two readers of call frame information say.
type agreement struct {
	files, funcs, rows  int // that were compared
	dead, hidden, other int // functions left out
	failed              int
}

func (a *agreement) String() string {
	return fmt.Sprintf("%d files, %d functions, %d rows; left out: %d dead functions, %d that others hide, %d functions or rows that the other cannot read",
		a.files, a.funcs, a.rows, a.dead, a.hidden, a.other)
}

// differ reports a difference, the first few of them.
func (a *agreement) differ(t *testing.T, format string, args ...any) {
	t.Helper()
	if a.failed++; a.failed <= 20 {
		t.Errorf(format, args...)
	}
}

// covers reports whether a function is in the table under its own start, and
// counts the reason if it is not: the table leaves out functions that are
// nowhere in executable segments, and those whose start another one has.
func (a *agreement) covers(t *testing.T, path string, tab *Table, ef *elf.File, start, end uint64) bool {
	t.Helper()
	executable := false
	for _, p := range ef.Progs {
		if p.Type == elf.PT_LOAD && p.Flags&elf.PF_X != 0 && start-p.Vaddr < p.Memsz {
			executable = true
		}
	}
	if !executable || start == 0 || start == end {
		a.dead++
		return false
	}
	s, e, ok := tab.Function(start)
	if !ok || s != start {
		a.differ(t, "%s: no function at %#x", path, start)
		return false
	}
	if e != end {
		// One that is longer, or one that begins inside it.
		if _, _, inside := tab.Function(e); e < end && !inside {
			a.differ(t, "%s: function %#x ends at %#x, want %#x", path, start, e, end)
		}
		a.hidden++
		return false
	}
	return true
}

// describe writes a rule as readelf does, in the columns that it names.
func describe(t *Table, addr uint64, columns []string) []string {
	r := t.rules[t.find(addr)]
	out := make([]string, len(columns))
	for i := range out {
		out[i] = "u"
	}
	out[0] = "exp"
	if r.cfa == cfaReg {
		out[0] = fmt.Sprintf("%s%+d", registerName(t.arch, int(r.reg)), r.n)
	}
	for _, s := range t.saves[r.first:][:r.saves] {
		name := registerName(t.arch, int(s.reg))
		if s.reg == r.ra {
			name = "ra"
		}
		v := ""
		switch s.kind {
		case lost:
			v = "u"
		case atOffset:
			v = fmt.Sprintf("c%+d", s.n)
		case isOffset:
			v = fmt.Sprintf("v%+d", s.n)
		case inReg:
			v = registerName(t.arch, int(s.n))
		case atExpr:
			v = "exp"
		case isExpr:
			v = "vexp"
		}
		for i := 1; i < len(columns); i++ {
			if columns[i] == name {
				out[i], v = v, ""
			}
		}
		if v != "" && v != "u" {
			out = append(out, name+"="+v)
		}
	}
	return out
}

var amd64Names = strings.Fields("rax rdx rcx rbx rsi rdi rbp rsp r8 r9 r10 r11 r12 r13 r14 r15 rip")

func registerName(a Arch, n int) string {
	switch {
	case a == AMD64 && n < len(amd64Names):
		return amd64Names[n]
	case a == ARM64 && n == arm64SP:
		return "sp"
	case a == ARM64 && n < arm64SP:
		return "x" + strconv.Itoa(n)
	}
	return "r" + strconv.Itoa(n)
}

// general reports whether the table has that column.
func general(a Arch, column string) bool {
	for n := range a.registers() {
		if registerName(a, n) == column {
			return true
		}
	}
	return column == "ra"
}

func TestTablesAgreeWithReadelfRowByRow(t *testing.T) {
	t.Parallel()
	tool.Need(t, "readelf")
	var a agreement
	for _, path := range elfFiles(t) {
		compareWithReadelf(t, &a, path)
	}
	t.Log(a.String())
	if a.rows == 0 {
		t.Error("nothing was compared")
	}
}

// inNumbered is how readelf writes the number of a register, and its name.
var inNumbered = regexp.MustCompile(`\br\d+ \((\w+)\)`)

func compareWithReadelf(t *testing.T, a *agreement, path string) {
	t.Helper()
	tab := tableOf(t, path)
	ef, err := elf.Open(path)
	if err != nil {
		a.other++
		return
	}
	defer ef.Close()
	cmd := exec.Command("readelf", "-wFN", path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// A table of readelf's is a line with the columns and one for each row.
	// An entry that changes nothing has none: then that of its CIE holds.
	type table struct {
		columns []string
		rows    [][]string
	}
	// What the table says, as text: its rules are few.
	type described struct {
		rule    uint16
		columns string
	}
	said := make(map[described]string)
	cies := make(map[string]*table)
	var cur *table
	var start, end uint64
	var cie string
	ehFrame, inFunction := false, false
	finish := func() {
		if !inFunction {
			return
		}
		inFunction = false
		if len(cur.rows) == 0 {
			c := cies[cie]
			if c == nil || len(c.rows) == 0 {
				a.other++
				return
			}
			cur = &table{c.columns, [][]string{append([]string{fmt.Sprintf("%016x", start)}, c.rows[0][1:]...)}}
		}
		if tab == nil {
			a.dead++
			return
		}
		if !a.covers(t, path, tab, ef, start, end) {
			return
		}
		a.funcs++
		columns := strings.Join(cur.columns, " ")
		for i, row := range cur.rows {
			from, err := strconv.ParseUint(row[0], 16, 64)
			if err != nil {
				t.Fatalf("%s: readelf wrote the row %q", path, row)
			}
			to := end
			if i+1 < len(cur.rows) {
				to, _ = strconv.ParseUint(cur.rows[i+1][0], 16, 64)
			}
			if from >= to || from >= end {
				continue
			}
			want := row[1:]
			for j, v := range want {
				// Unchanged and not known are one in the table, and it leaves
				// out vector registers.
				if v == "s" || j > 0 && !general(tab.arch, cur.columns[j]) {
					want[j] = "u"
				}
			}
			a.rows++
			text := strings.Join(want, " ")
			for _, at := range []uint64{from, to - 1} {
				key := described{tab.find(at), columns}
				got, ok := said[key]
				if !ok {
					got = strings.Join(describe(tab, at, cur.columns), " ")
					said[key] = got
				}
				if got != text {
					a.differ(t, "%s: at %#x of %#x the table says %v, readelf %v, of %v", path, at, start, got, text, columns)
					break
				}
			}
		}
	}
	sc := bufio.NewScanner(out)
	sc.Buffer(nil, 1<<20)
	over := false
	for !over && sc.Scan() {
		line := sc.Text()
		if strings.Contains(line, " (") {
			line = inNumbered.ReplaceAllString(line, "$1")
		}
		fields := strings.Fields(line)
		switch {
		case strings.HasPrefix(line, "Contents of the "):
			finish()
			cur = nil
			if strings.Contains(line, " .eh_frame section") {
				ehFrame = true
			} else if ehFrame {
				over = true // the table has no part of .debug_frame
			}
		case len(fields) >= 4 && fields[3] == "CIE":
			finish()
			cur = &table{}
			cies[fields[0]] = cur
		case len(fields) >= 6 && fields[3] == "FDE":
			finish()
			cur = &table{}
			inFunction = true
			cie = strings.TrimPrefix(fields[4], "cie=")
			from, to, ok := strings.Cut(strings.TrimPrefix(fields[5], "pc="), "..")
			if !ok {
				t.Fatalf("%s: readelf wrote %q", path, line)
			}
			start, _ = strconv.ParseUint(from, 16, 64)
			end, _ = strconv.ParseUint(to, 16, 64)
		case cur == nil || len(fields) == 0 || fields[len(fields)-1] == "terminator":
		case fields[0] == "LOC":
			cur.columns = fields[1:]
		case len(cur.columns) > 0 && len(fields) == len(cur.columns)+1:
			cur.rows = append(cur.rows, fields)
		}
	}
	if err := sc.Err(); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	finish()
	_, _ = io.Copy(io.Discard, out)
	// Its exit status is about damage that it has warned of.
	_ = cmd.Wait()
	a.files++
}

func TestTablesAgreeWithDelveRowByRow(t *testing.T) {
	t.Parallel()
	var a agreement
	for _, path := range elfFiles(t) {
		compareWithDelve(t, &a, path)
	}
	t.Log(a.String())
	if a.rows == 0 {
		t.Error("nothing was compared")
	}
}

func compareWithDelve(t *testing.T, a *agreement, path string) {
	t.Helper()
	tab := tableOf(t, path)
	ef, err := elf.Open(path)
	if err != nil {
		a.other++
		return
	}
	defer ef.Close()
	var addr uint64
	sec := ef.Section(".eh_frame")
	if sec != nil && sec.Type != elf.SHT_NOBITS {
		addr = sec.Addr
	} else if sec = ef.Section(".debug_frame"); sec == nil {
		return
	}
	data, err := sec.Data()
	if err != nil {
		a.other++
		return
	}
	fdes, err := delveParse(data, addr)
	if err != nil || tab == nil {
		a.other++
		return
	}
	a.files++
	said := make(map[uint16][]string)
	for i, fde := range fdes {
		if len(fdes) > 20_000 && i%16 > 0 && os.Getenv("MAPTRACE_LONG") != "1" {
			continue
		}
		start, end := fde.Begin(), fde.End()
		if !a.covers(t, path, tab, ef, start, end) {
			continue
		}
		a.funcs++
		at := rowStarts(tab, start, end)
		step := 1 + len(at)/200 // as delve begins anew for each
		for i := 0; i < len(at); i += step {
			at := at[i]
			want, err := delveRow(tab, fde, at)
			if err != nil {
				a.other++
				break
			}
			a.rows++
			got := said[tab.find(at)]
			if got == nil {
				got = describe(tab, at, []string{"CFA", "ra"})
				said[tab.find(at)] = got
			}
			if want[0] == "exp" && got[0] != "exp" && got[1] == want[1] {
				// delve keeps an expression that DW_CFA_def_cfa_register
				// replaces. The comparison with readelf covers these rows.
				a.other++
				continue
			}
			if got[0] != want[0] || got[1] != want[1] {
				a.differ(t, "%s: at %#x of %#x the table says %v, delve %v", path, at, start, got, want)
			}
		}
	}
}

// rowStarts returns where the rows of a function begin, and the last address
// of each.
func rowStarts(t *Table, start, end uint64) []uint64 {
	var at []uint64
	for i := t.function(start); i < len(t.funcs) && t.base+uint64(t.funcs[i].start) < end; i++ {
		f := &t.funcs[i]
		last := len(t.rows)
		if i+1 < len(t.funcs) {
			last = int(t.funcs[i+1].first())
		}
		for _, r := range t.rows[f.first():last] {
			a := t.base + uint64(f.start) + uint64(r.off)
			if a > start {
				at = append(at, a-1)
			}
			at = append(at, a)
		}
	}
	return append(at, end-1)
}

var errDelve = errors.New("delve panicked")

// delveParse is the other reader, which panics where it meets the unexpected.
func delveParse(data []byte, addr uint64) (fdes frame.FrameDescriptionEntries, err error) {
	defer func() {
		if recover() != nil {
			err = errDelve
		}
	}()
	return frame.Parse(bytes.Clone(data), binary.LittleEndian, 0, 8, addr)
}

// delveRow returns the CFA and the return address at pc, as describe does.
func delveRow(t *Table, fde *frame.FrameDescriptionEntry, pc uint64) (row [2]string, err error) {
	defer func() {
		if recover() != nil {
			err = errDelve
		}
	}()
	c, err := fde.EstablishFrame(pc)
	if err != nil {
		return row, err
	}
	row = [2]string{"exp", "u"}
	if c.CFA.Rule == frame.RuleCFA {
		row[0] = fmt.Sprintf("%s%+d", registerName(t.arch, int(c.CFA.Reg)), c.CFA.Offset)
	}
	switch r := c.Regs[c.RetAddrReg]; r.Rule {
	case frame.RuleOffset:
		row[1] = fmt.Sprintf("c%+d", r.Offset)
	case frame.RuleValOffset:
		row[1] = fmt.Sprintf("v%+d", r.Offset)
	case frame.RuleRegister:
		row[1] = registerName(t.arch, int(r.Reg))
	case frame.RuleExpression:
		row[1] = "exp"
	case frame.RuleValExpression:
		row[1] = "vexp"
	}
	return row, nil
}
