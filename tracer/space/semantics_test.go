package space

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/maptrace/maptrace/procmaps"
)

func TestSemanticsOfEachCall(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/semantics.txt")
	if err != nil {
		t.Fatal(err)
	}
	cases := strings.Split(string(text), "\n== ")[1:]
	for _, c := range cases {
		name, body, _ := strings.Cut(c, "\n")
		t.Run(name, func(t *testing.T) { runCase(t, body) })
	}
}

func runCase(t *testing.T, body string) {
	t.Helper()
	s := New(Options{Reports: true})
	var have []Row
	var want []string
	var last Effect
	seeded, time := false, uint64(100)
	for line := range strings.Lines(body) {
		word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch word {
		case "have":
			have = append(have, parseRow(t, rest))
		case "do":
			if !seeded {
				s.Reread(Read{Range: All, Rows: have, Began: 1, Op: OpSeed})
				s.SetComplete(true)
				seeded = true
			}
			time += 10
			c := parseCall(t, rest, time)
			last = s.Apply(&c)
			if err := s.checkInvariants(); err != nil {
				t.Fatalf("after %q: %v", rest, err)
			}
		case "prune":
			s.Prune(time + 5)
		case "want":
			want = append(want, rest)
		case "says":
			fields := strings.Fields(rest)
			for i := 0; i+1 < len(fields); i += 2 {
				if got := sayOf(&last, fields[i]); got != fields[i+1] {
					t.Errorf("%s: got %s, want %s", fields[i], got, fields[i+1])
				}
			}
		case "":
		default:
			t.Fatalf("line %q", line)
		}
	}
	var got []string
	for _, r := range s.Regions(nil) {
		got = append(got, rowText(s, r))
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("regions (-want +got):\n%s", d)
	}
}

func sayOf(e *Effect, key string) string {
	var list []string
	switch key {
	case "delta":
		return fmt.Sprint(e.Delta / page)
	case "late":
		return fmt.Sprint(e.Late)
	case "range":
		return pagesText(e.Range)
	case "violation":
		if e.Violations == 0 {
			return "none"
		}
		return map[Violation]string{
			OverlapsLive: "OverlapsLive", ProtectedAbsent: "ProtectedAbsent",
			MovedAbsent: "MovedAbsent", DetachedAbsent: "DetachedAbsent",
		}[e.Reason]
	case "doubt":
		for _, r := range e.Doubts {
			list = append(list, pagesText(r))
		}
	case "displaced":
		for _, d := range e.Displaced {
			text := pagesText(d.Range) + ":" + d.How.String()
			if d.Partial {
				text += ":partial"
			}
			list = append(list, text)
		}
	}
	if list == nil {
		return "none"
	}
	return strings.Join(list, ",")
}

func pagesText(r procmaps.Range) string { return fmt.Sprintf("%x-%x", r.Start/page, r.End/page) }

func rowText(s *Space, r Region) string {
	out := pagesText(r.Range) + " " + r.Mode.String()
	f := s.File(r.File)
	at := fmt.Sprintf("%d@%x", r.Inode, r.Offset/page)
	switch f.Class {
	case ClassHugeTLB:
		out += " huge"
	case ClassSysV:
		out += " sysv=" + at
	case ClassAnonShared:
		out += " shm=" + at
	case ClassDevice:
		out += " device=" + at
	case 0:
	default:
		out += " file=" + at
	}
	for _, prefix := range []string{"[anon:", "[anon_shmem:"} {
		if name, ok := strings.CutPrefix(r.Name, prefix); ok {
			out += " name=" + strings.TrimSuffix(name, "]")
		}
	}
	for _, f := range []struct {
		flag Flags
		text string
	}{{GrowsDown, " gd"}, {DontFork, " dc"}, {WipeOnFork, " wf"}} {
		if r.Flags&f.flag != 0 {
			out += f.text
		}
	}
	return out
}

// num parses PAGES or PAGES.BYTES, in hex, to bytes.
func num(t *testing.T, s string) uint64 {
	t.Helper()
	hi, lo, _ := strings.Cut(s, ".")
	n, err := strconv.ParseUint(hi, 16, 52)
	if err != nil {
		t.Fatal(err)
	}
	m := uint64(0)
	if lo != "" {
		if m, err = strconv.ParseUint(lo, 16, 12); err != nil {
			t.Fatal(err)
		}
	}
	return n*page + m
}

func parseRange(t *testing.T, s string) procmaps.Range {
	t.Helper()
	lo, hi, _ := strings.Cut(s, "-")
	return procmaps.Range{Start: num(t, lo), End: num(t, hi)}
}

func parseMode(s string) procmaps.Mode {
	var m procmaps.Mode
	for i, c := range "rwxs" {
		if i < len(s) && s[i] == byte(c) {
			m |= 1 << i
		}
	}
	return m
}

func parseFile(t *testing.T, s string) (inode, off uint64) {
	t.Helper()
	a, b, _ := strings.Cut(s, "@")
	inode, err := strconv.ParseUint(a, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return inode, num(t, b)
}

func parseRow(t *testing.T, s string) Row {
	t.Helper()
	f := strings.Fields(s)
	row := Row{
		Mapping: procmaps.Mapping{Range: parseRange(t, f[0]), Mode: parseMode(f[1])},
		Known:   GrowsDown | DontFork | WipeOnFork | Userfault,
	}
	for _, w := range f[2:] {
		key, val, _ := strings.Cut(w, "=")
		switch key {
		case "file":
			row.Inode, row.Offset = parseFile(t, val)
			row.Dev, row.Name = procmaps.Device{Minor: 1}, "/f"+val
		case "device":
			row.Inode, row.Offset = parseFile(t, val)
			row.Dev, row.Name = procmaps.Device{Minor: 5}, "/dev/"+val
		case "shm":
			row.Inode, row.Offset = parseFile(t, val)
			row.Dev, row.Name = procmaps.Device{Minor: 1}, "/dev/zero (deleted)"
		case "huge":
			row.Inode, row.Dev, row.Name = 99, procmaps.Device{Minor: 16}, "/anon_hugepage (deleted)"
			row.Offset = row.Start // two mappings that are not one
		case "name":
			row.Name = "[anon:" + val + "]"
		case "gd":
			row.Flags |= GrowsDown
		case "dc":
			row.Flags |= DontFork
		case "wf":
			row.Flags |= WipeOnFork
		case "uffd":
			row.Flags |= Userfault
		default:
			t.Fatalf("row %q", s)
		}
	}
	return row
}

var (
	mmapFlags = map[string]uint64{
		"private": 2, "shared": 1, "validate": 3, "droppable": 8, "anon": mapAnonymous, "fixed": mapFixed,
		"noreplace": mapFixedNoReplace, "growsdown": mapGrowsDown, "huge": mapHugeTLB, "rie": 0, "readonly": 0,
	}
	mremapFlags = map[string]uint64{"0": 0, "maymove": 1, "fixed": mremapFixed, "dontunmap": mremapDontUnmap}
	shmFlags    = map[string]uint64{"ro": shmReadOnly, "rw": 0, "exec": shmExec, "remap": shmRemap}
	advices     = map[string]uint64{
		"dontfork": madvDontFork, "dofork": madvDoFork, "wipeonfork": madvWipeOnFork,
		"keeponfork": madvKeepOnFork, "dontneed": 4,
	}
)

// parseCall reads a call; see testdata/semantics.txt for examples of each.
func parseCall(t *testing.T, s string, time uint64) Call {
	t.Helper()
	left, result, _ := strings.Cut(s, " = ")
	c := Call{Time: time, TID: 1}
	if r, n, ok := strings.Cut(result, " pages="); ok {
		result = r
		gone, err := strconv.ParseInt(n, 16, 64)
		if err != nil {
			t.Fatal(err)
		}
		c.Pages = gone
	}
	if r, at, ok := strings.Cut(result, " @"); ok {
		result = r
		n, err := strconv.ParseUint(at, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		c.Time = n
	}
	if errno, ok := strings.CutPrefix(result, "-"); ok {
		n, err := strconv.Atoi(errno)
		if err != nil {
			t.Fatal(err)
		}
		c.Ret = -int64(n)
	} else {
		c.Ret = int64(num(t, result))
	}
	var pos []string
	for w := range strings.FieldsSeq(left) {
		key, val, ok := strings.Cut(w, "=")
		switch {
		case ok && key == "file":
			c.File.Inode, c.Args[5] = parseFile(t, val)
			c.File.Dev = procmaps.Device{Minor: 1}
		case ok && key == "vma":
			c.VMA = parseRange(t, val)
		case ok && key == "off":
			c.Args[5] = num(t, val)
		case ok && key == "at":
			c.Args[1] = num(t, val)
		case ok && key == "old":
			c.OldBrk = num(t, val)
		case w == "rie":
			c.Exec = true
		default:
			pos = append(pos, w)
		}
	}
	flags := func(s string, known map[string]uint64) (n uint64) {
		for w := range strings.SplitSeq(s, ",") {
			if size, ok := strings.CutPrefix(w, "huge="); ok {
				log, err := strconv.Atoi(size)
				if err != nil {
					t.Fatal(err)
				}
				n |= mapHugeTLB | uint64(log)<<mapHugeShift
				continue
			}
			v, ok := known[w]
			if !ok {
				t.Fatalf("%q: unknown %q", s, w)
			}
			c.Exec = c.Exec || w == "rie"
			c.ReadOnly = c.ReadOnly || w == "readonly"
			n |= v
		}
		return n
	}
	op := pos[0]
	if op != "shmat" {
		for i, w := range pos[1:min(len(pos), 3)] {
			c.Args[i] = num(t, w)
		}
	}
	switch op {
	case "mmap":
		c.Op = OpMmap
		c.Args[2], c.Args[3] = uint64(parseMode(pos[3])), flags(pos[4], mmapFlags)
	case "munmap":
		c.Op = OpMunmap
	case "brk":
		c.Op = OpBrk
	case "mlock":
		c.Op = OpMlock
	case "mprotect":
		c.Op = OpMprotect
		mode, down, _ := strings.Cut(pos[3], ",")
		c.Args[2] = uint64(parseMode(mode))
		if down != "" {
			c.Args[2] |= protGrowsDown
		}
	case "madvise":
		c.Op = OpMadvise
		c.Args[2] = advices[pos[3]]
	case "name":
		c.Op = OpSetVMA
		c.Args = [6]uint64{0x53564d61, 0, c.Args[0], c.Args[1]}
		if len(pos) > 3 {
			c.Name = pos[3]
		}
	case "mremap":
		c.Op = OpMremap
		c.Args[2], c.Args[3] = num(t, pos[3]), flags(pos[4], mremapFlags)
		if len(pos) > 5 {
			c.Args[4] = num(t, pos[5])
		}
	case "shmat":
		c.Op = OpShmat
		id, err := strconv.ParseUint(pos[1], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		c.Args[2] = flags(pos[2], shmFlags)
		c.File = File{Dev: procmaps.Device{Minor: 1}, Inode: id}
	case "shmdt":
		c.Op = OpShmdt
	case "remap":
		c.Op = OpRemapFilePages
		c.Args[3] = num(t, pos[3]) / page
	default:
		t.Fatalf("unknown call %q", s)
	}
	return c
}
