//go:build linux

package main

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// program is what calls.c does: lists of calls, of which the first begin at once, each
// in a thread.
type program struct {
	threads int
	root    bool // it opens what only root may
	settle  int  // for how many microseconds a process stands still before it ends
	calls   []call
}

type call struct {
	list int
	text string
}

func (p *program) String() string {
	var b strings.Builder
	root := 0
	if p.root {
		root = 1
	}
	fmt.Fprintf(&b, "threads %d root %d settle %d\n", p.threads, root, p.settle)
	for _, c := range p.calls {
		fmt.Fprintf(&b, "%d %s\n", c.list, c.text)
	}
	return b.String()
}

// readProgram is the inverse of String.
func readProgram(r io.Reader) (*program, error) {
	lines := bufio.NewScanner(r)
	lines.Scan()
	p := &program{}
	root := 0
	if _, err := fmt.Sscanf(lines.Text(), "threads %d root %d settle %d", &p.threads, &root, &p.settle); err != nil {
		return nil, fmt.Errorf("first line %q: %w", lines.Text(), err)
	}
	p.root = root == 1
	for lines.Scan() {
		list, text, _ := strings.Cut(lines.Text(), " ")
		n, err := strconv.Atoi(list)
		// A carriage return before the end of a line belongs to the end.
		if text = strings.TrimSpace(text); err != nil || text == "" {
			return nil, fmt.Errorf("%q is no call of a list", lines.Text())
		}
		p.calls = append(p.calls, call{n, text})
	}
	return p, lines.Err()
}

// Addresses that programs use: areas far below all that the kernel places by itself,
// and below 4 GiB for calls of 32 bits. The dense part of an area is where mappings
// meet; above is room for stacks to grow.
const (
	page      = 4096
	firstArea = 0x20000000
	areaBytes = 8 << 20
	areas     = 4
	dense     = 40 // pages
	stackAt   = 1400
	storms    = 0x400000000

	map32bit = 0x40 // of x86 only
)

// The descriptors of calls.c.
const (
	fdA = 100 + iota
	fdB
	fdMemfd
	fdZero
	fdNoexec
	fdTCP
	fdPacket
	fdSelf
	fdPerf
	fdSecret
	fdTrace
	fdHuge
)

// generator makes a program of random calls.
type generator struct {
	*rand.Rand
	p    *program
	on   []*feature // that make calls
	use  map[string]bool
	next int         // list
	home map[int]int // the area of a list, and of those that it calls
}

// feature is a kind of call that a program may have or not: with few kinds in each,
// they meet more often than with all in all.
type feature struct {
	name string
	in   int // of 6 programs
	add  func(g *generator, list int)
}

var features []feature

// basic is the kind that every program has.
const basic = "map"

func init() {
	features = []feature{
		{basic, 6, (*generator).mapping},
		{"file", 2, (*generator).file},
		{"special", 2, (*generator).special},
		{"shm", 2, (*generator).shm},
		{"stack", 2, (*generator).stack},
		{"brk", 2, (*generator).heap},
		{"setmm", 2, (*generator).setmm},
		{"advice", 3, (*generator).advice},
		{"lock", 2, (*generator).lock},
		{"seal", 1, (*generator).seal},
		{"name", 2, (*generator).name},
		{"remap", 2, (*generator).remap},
		{"personality", 2, (*generator).personality},
		{"fork", 3, (*generator).fork},
		{"share", 2, (*generator).share},
		{"exec", 1, (*generator).exec},
		{"seccomp", 2, (*generator).seccomp},
		{"signal", 2, (*generator).signal},
		{"storm", 2, (*generator).storm},
		{"race", 2, (*generator).race},
		{"ptrace", 2, (*generator).ptrace},
		{"uprobe", 2, (*generator).uprobe},
		{"uffd", 2, (*generator).uffd},
		{"vdso", 2, (*generator).vdso},
		{"busy", 2, (*generator).busy},
		{"leave", 1, (*generator).leave},
		// Ways into the kernel, of the other calls.
		{"int80", 3, nil},
		{"x32", 1, nil},
		{"uring", 3, nil},
		{"process_madvise", 3, nil},
	}
}

// generate makes the program of a seed, without some kinds of calls.
func generate(seed uint64, without []string) *program {
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 0)), p: &program{}, use: make(map[string]bool), home: make(map[int]int)}
	g.p.threads, g.p.root = 1+g.IntN(3), g.IntN(2) == 0
	g.p.settle = g.one(0, 50_000, 50_000)
	for i := range features {
		f := &features[i]
		// All choices are made, so that a seed has the same other kinds without some.
		if chosen := g.IntN(6) < f.in; !chosen || slices.Contains(without, f.name) {
			continue
		}
		g.use[f.name] = true
		if f.add != nil {
			g.on = append(g.on, f)
		}
	}
	g.next = g.p.threads
	for list := range g.p.threads {
		g.home[list] = list
		g.fill(list, 4+g.IntN(24))
	}
	return g.p
}

// fill adds n steps to a list.
func (g *generator) fill(list, n int) {
	for range n {
		if len(g.on) == 0 || g.IntN(5) < 2 {
			g.mapping(list)
		} else {
			g.on[g.IntN(len(g.on))].add(g, list)
		}
	}
}

func (g *generator) add(list int, format string, args ...any) {
	g.p.calls = append(g.p.calls, call{list, fmt.Sprintf(format, args...)})
}

// child makes another list, in the areas of one, and returns its number.
func (g *generator) child(list, n int) int {
	c := g.next
	g.next++
	g.home[c] = g.home[list]
	if c < 12 { // children of children come to an end
		g.fill(c, n)
	}
	return c
}

func (g *generator) one(values ...int) int { return values[g.IntN(len(values))] }

// spot returns where a call is to be, and how many bytes.
func (g *generator) spot(list int) (addr, length int) {
	area := g.home[list]
	if g.IntN(5) == 0 {
		area = g.IntN(areas)
	}
	at := g.IntN(dense)
	if g.use["stack"] && g.IntN(4) == 0 {
		at = stackAt + g.IntN(dense)
	}
	return firstArea + area*areaBytes + at*page, (1 + g.IntN(12)) * page
}

// how is the way into the kernel of a call that has a number for 32 bits.
func (g *generator) how() string {
	switch {
	case g.use["int80"] && g.IntN(3) == 0:
		return "i"
	case g.use["x32"] && g.IntN(6) == 0:
		return "x"
	}
	return "s"
}

func (g *generator) prot() int { return g.one(0, 1, 3, 3, 3, 5, 7, 2, 4) }

// mapping is the calls that every program makes.
func (g *generator) mapping(list int) {
	addr, length := g.spot(list)
	switch g.IntN(10) {
	case 0, 1, 2, 3:
		flags := g.one(unix.MAP_PRIVATE, unix.MAP_PRIVATE, unix.MAP_SHARED) | unix.MAP_ANONYMOUS
		flags |= g.one(unix.MAP_FIXED, unix.MAP_FIXED, unix.MAP_FIXED, unix.MAP_FIXED_NOREPLACE, 0)
		flags |= g.one(0, 0, 0, 0, unix.MAP_POPULATE, unix.MAP_NORESERVE, unix.MAP_LOCKED, unix.MAP_GROWSDOWN, unix.MAP_STACK,
			unix.MAP_HUGETLB|unix.MAP_NORESERVE, map32bit)
		g.add(list, "mmap %s %#x %#x %d %#x -1 0", g.how(), addr, length, g.prot(), flags)
	case 4, 5:
		g.add(list, "munmap %s %#x %#x", g.how(), addr, length)
	case 6, 7:
		g.add(list, "mprotect %s %#x %#x %#x", g.how(), addr, length, g.prot()|g.one(0, 0, 0, 0, 0, unix.PROT_GROWSDOWN))
	case 8:
		to, size := g.spot(list)
		if g.IntN(2) == 0 {
			size = length
		}
		flags := g.one(0, unix.MREMAP_MAYMOVE, unix.MREMAP_MAYMOVE|unix.MREMAP_FIXED, unix.MREMAP_MAYMOVE|unix.MREMAP_FIXED,
			unix.MREMAP_MAYMOVE|unix.MREMAP_DONTUNMAP, unix.MREMAP_MAYMOVE|unix.MREMAP_DONTUNMAP|unix.MREMAP_FIXED)
		g.add(list, "mremap %s %#x %#x %#x %d %#x", g.how(), addr, g.one(length, length, length, 0), size, flags, to)
	case 9:
		switch g.IntN(6) {
		case 4, 5: // maptrace reads /proc meanwhile, if it has to
			g.add(list, "pause %d", g.one(1000, 20_000, 100_000))
		case 0:
			g.add(list, "fill %#x %#x", addr, length)
		case 1:
			g.add(list, "pkey_mprotect %s %#x %#x %d -1", g.how(), addr, length, g.prot())
		default:
			g.add(list, "touch %#x %d", addr, g.IntN(2))
		}
	}
}

func (g *generator) file(list int) {
	addr, length := g.spot(list)
	fd := g.one(fdA, fdA, fdB, fdMemfd, fdZero, fdNoexec, fdNoexec, fdSelf)
	g.add(list, "mmap %s %#x %#x %d %#x %d %#x", g.how(), addr, length, g.prot(),
		g.one(unix.MAP_PRIVATE, unix.MAP_SHARED)|g.one(unix.MAP_FIXED, unix.MAP_FIXED, unix.MAP_FIXED_NOREPLACE)|g.one(0, 0, unix.MAP_POPULATE, unix.MAP_LOCKED),
		fd, g.IntN(8)*page)
}

// special maps what drivers map.
func (g *generator) special(list int) {
	addr, length := g.spot(list)
	switch g.IntN(6) {
	case 0:
		g.add(list, "mmap %s %#x %#x %d %#x %d 0", g.how(), addr, length, g.one(0, 1), g.one(unix.MAP_SHARED, unix.MAP_PRIVATE)|unix.MAP_FIXED, fdTCP)
	case 1:
		g.add(list, "mmap %s %#x %#x %d %#x %d 0", g.how(), addr, 16*page, g.one(1, 3), unix.MAP_SHARED|unix.MAP_FIXED, fdPacket)
	case 2:
		g.add(list, "mmap %s %#x %#x %d %#x %d 0", g.how(), addr, g.one(1, 2, 3, 5, 9)*page, g.one(1, 3), unix.MAP_SHARED|unix.MAP_FIXED, fdPerf)
	case 3:
		g.add(list, "mmap %s %#x %#x %d %#x %d %#x", g.how(), addr, length, g.one(1, 3), unix.MAP_SHARED|unix.MAP_FIXED, fdSecret, g.IntN(3)*page)
	case 4:
		g.add(list, "mmap %s %#x %#x 1 %#x %d 0", g.how(), addr, page, unix.MAP_SHARED|unix.MAP_FIXED, fdTrace)
	case 5:
		huge := addr &^ (2<<20 - 1)
		g.add(list, "mmap %s %#x %#x 3 %#x %d 0", g.how(), huge, g.one(2<<20, 4<<20, page), unix.MAP_SHARED|unix.MAP_FIXED|unix.MAP_NORESERVE, fdHuge)
	}
}

func (g *generator) shm(list int) {
	const rdonly, rnd, remap, exec = 0o10000, 0o20000, 0o40000, 0o100000
	addr, _ := g.spot(list)
	if g.IntN(3) == 0 {
		g.add(list, "shmdt %s %#x", g.how(), addr)
		return
	}
	g.add(list, "shmat %s %d %#x %#o", g.how(), g.IntN(3), addr+g.one(0, 0, 0, 8), g.one(0, rdonly, exec, 0)|g.one(0, remap, remap, rnd))
}

// stack makes a mapping that grows, and has it grow.
func (g *generator) stack(list int) {
	base := firstArea + g.home[list]*areaBytes + stackAt*page
	at := base + g.IntN(dense)*page
	switch g.IntN(6) {
	case 0, 1:
		g.add(list, "mmap %s %#x %#x 3 %#x -1 0", g.how(), at, (1+g.IntN(12))*page, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_FIXED|unix.MAP_GROWSDOWN)
	case 2, 3:
		g.add(list, "touch %#x %d", base-(g.IntN(60)-20)*page, g.IntN(2))
	case 4:
		g.add(list, "fill %#x %#x", base-g.IntN(60)*page, 2*page)
	case 5:
		g.add(list, "deep %d", g.IntN(1000))
	}
}

func (g *generator) heap(list int) {
	g.add(list, "sbrk %s %d", g.how(), (g.IntN(60)-20)*page+g.one(0, 0, 100))
}

// setmm moves the heap to another place.
func (g *generator) setmm(list int) {
	g.add(list, "setmm %d", g.one(0, 1, 16, 100, 4000, 16384, 20000))
	g.add(list, "sbrk %s %d", g.how(), (1+g.IntN(40))*page)
}

// advices are those that change a mapping, or may.
var advices = []int{
	unix.MADV_DONTFORK, unix.MADV_DONTFORK, unix.MADV_DONTFORK, unix.MADV_DOFORK, unix.MADV_WIPEONFORK, unix.MADV_KEEPONFORK,
	unix.MADV_DONTDUMP, unix.MADV_DODUMP, unix.MADV_HUGEPAGE, unix.MADV_NOHUGEPAGE, unix.MADV_MERGEABLE, unix.MADV_UNMERGEABLE,
	unix.MADV_FREE, unix.MADV_DONTNEED, unix.MADV_SEQUENTIAL, unix.MADV_RANDOM, unix.MADV_NORMAL, unix.MADV_WILLNEED, unix.MADV_REMOVE,
	unix.MADV_COLD, unix.MADV_PAGEOUT, unix.MADV_POPULATE_READ, unix.MADV_POPULATE_WRITE, unix.MADV_COLLAPSE, 102, 103,
}

func (g *generator) advice(list int) {
	addr, length := g.spot(list)
	g.advise(list, addr, length, g.one(advices...))
}

func (g *generator) advise(list, addr, length, advice int) {
	how := g.how()
	switch {
	case g.use["uring"] && g.IntN(2) == 0:
		how = "u"
	case g.use["process_madvise"] && g.IntN(2) == 0:
		how = "p"
	}
	g.add(list, "madvise %s %#x %#x %d", how, addr, length, advice)
}

func (g *generator) lock(list int) {
	addr, length := g.spot(list)
	switch g.IntN(6) {
	case 0, 1:
		g.add(list, "mlock %s %#x %#x", g.how(), addr, length)
	case 2:
		g.add(list, "mlock2 %s %#x %#x 1", g.how(), addr, length)
	case 3:
		g.add(list, "munlock %s %#x %#x", g.how(), addr, length)
	case 4:
		g.add(list, "mlockall %s %d", g.how(), g.one(1, 2, 3, 4, 5, 6))
	case 5:
		g.add(list, "munlockall %s", g.how())
	}
}

func (g *generator) seal(list int) {
	addr, length := g.spot(list)
	if g.IntN(4) == 0 {
		g.add(list, "mseal %s %#x %#x 0", g.how(), addr, length)
	}
}

func (g *generator) name(list int) {
	addr, length := g.spot(list)
	g.add(list, "name %#x %#x %d", addr, length, g.IntN(4))
}

func (g *generator) remap(list int) {
	addr, length := g.spot(list)
	fd := g.one(fdA, fdMemfd, fdNoexec)
	if g.IntN(2) == 0 {
		g.add(list, "mmap %s %#x %#x %d %#x %d 0", g.how(), addr, length, g.one(1, 3), unix.MAP_SHARED|unix.MAP_FIXED, fd)
	}
	g.add(list, "remap_file_pages %s %#x %#x 0 %d 0", g.how(), addr, (1+g.IntN(3))*page, g.IntN(8))
}

func (g *generator) personality(list int) {
	const readImpliesExec, mmapPageZero = 0x400000, 0x100000
	g.add(list, "personality %s %#x", g.how(), g.one(readImpliesExec, readImpliesExec, readImpliesExec, 0, mmapPageZero))
}

// fork makes a child, which has what its parent was advised that it should have.
func (g *generator) fork(list int) {
	if g.IntN(2) == 0 {
		addr, length := g.spot(list)
		g.add(list, "mmap s %#x %#x 3 %#x -1 0", addr, length+4*page, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_FIXED)
		g.advise(list, addr+page, length, g.one(unix.MADV_DONTFORK, unix.MADV_DONTFORK, unix.MADV_DOFORK, unix.MADV_WIPEONFORK))
		g.add(list, "pause %d", g.one(1000, 50_000, 100_000))
	}
	g.add(list, "fork %s %d", g.how(), g.child(list, g.IntN(6)))
	if g.IntN(3) == 0 {
		g.add(list, "wait")
	}
}

// share makes a process that has the same address space. It makes none itself: if it
// died, nobody would wait for that.
func (g *generator) share(list int) {
	if g.use["sharing"] {
		return
	}
	g.use["sharing"] = true
	g.add(list, "%s %d", []string{"vfork", "share"}[g.IntN(2)], g.child(list, g.IntN(6)))
	g.use["sharing"] = false
}

func (g *generator) exec(list int) {
	if list >= g.p.threads || g.IntN(3) == 0 {
		g.add(list, "exec %d", g.child(list, g.IntN(8)))
	}
}

// seccomp has calls refused, or not done and called successful, with one first argument
// or any, and makes them.
func (g *generator) seccomp(list int) {
	addr, length := g.spot(list)
	name := []string{"mmap", "munmap", "mprotect", "madvise", "mremap", "mlock", "brk", "madvise"}[g.IntN(8)]
	if name == "brk" {
		addr = 0
	}
	how := g.how()
	g.add(list, "deny-%s %s %#x %d", name, how, g.one(addr, addr, 0), g.one(0, 0, 0, int(unix.ENOSYS), int(unix.ENOMEM)))
	switch name {
	case "mmap":
		g.add(list, "mmap %s %#x %#x 3 %#x -1 0", how, addr, length, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_FIXED)
	case "munmap", "mlock":
		g.add(list, "%s %s %#x %#x", name, how, addr, length)
	case "mprotect":
		g.add(list, "mprotect %s %#x %#x %d", how, addr, length, g.prot())
	case "madvise":
		g.add(list, "madvise %s %#x %#x %d", how, addr, length, g.one(advices...))
	case "mremap":
		to, _ := g.spot(list)
		g.add(list, "mremap %s %#x %#x %#x %d %#x", how, addr, length, length, unix.MREMAP_MAYMOVE|unix.MREMAP_FIXED, to)
	case "brk":
		g.heap(list)
	}
}

// signal has a handler make calls, perhaps on a stack that is not there.
func (g *generator) signal(list int) {
	addr, length := g.spot(list)
	g.add(list, "handler %d", g.child(list, 1+g.IntN(3)))
	if g.IntN(2) == 0 {
		g.add(list, "mmap s %#x %#x 3 %#x -1 0", addr, length+8*page, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_FIXED)
		g.add(list, "altstack %#x %#x", addr, length+8*page)
	}
	g.add(list, "raise")
}

// storm sends signals while a call is refused again and again as if it were not there.
// Their frames fault, and the handler makes a call that is not done.
func (g *generator) storm(list int) {
	if g.use["stormed"] { // it takes long, and a filter stays
		return
	}
	g.use["stormed"] = true
	addr, length := g.spot(list)
	bait := 0x1000
	name := []string{"munmap", "mprotect", "madvise"}[g.IntN(3)]
	args := fmt.Sprintf("%#x %#x %d", addr, length, g.one(0, 1, 4))
	h := g.next
	g.next++
	g.add(list, "mmap s %#x %#x 7 %#x -1 0", addr, length, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_FIXED)
	g.add(list, "deny-munmap s %#x %d", bait, int(unix.ENOSYS))
	g.add(list, "deny-%s s %#x 0", name, addr)
	g.add(h, "%s s %s", name, args)
	g.add(list, "handler %d", h)
	g.add(list, "storm-munmap s %#x %#x %#x", storms, bait, page)
}

func (g *generator) race(list int) {
	addr := storms*2 + list*(256<<20)
	g.add(list, "race %#x %#x %d %#x %d %d", addr, g.one(1<<20, 16<<20, 32<<20), g.one(1, 3, 5), unix.MAP_SHARED, fdA, g.one(fdB, fdMemfd))
}

// ptrace makes a child whose calls are changed. A tracer that is traced itself would
// take ever longer.
func (g *generator) ptrace(list int) {
	if g.use["traced"] {
		return
	}
	g.use["traced"] = true
	c := g.child(list, 2+g.IntN(6))
	g.use["traced"] = false
	addr, length := g.spot(list)
	for range g.IntN(4) {
		g.add(c, "getppid s %#x %#x %d", addr, length, g.one(unix.MADV_DONTFORK, unix.MADV_DONTNEED))
	}
	g.add(list, "traced %d %d", c, g.IntN(7))
}

func (g *generator) uprobe(list int) { g.add(list, "probe") }

func (g *generator) uffd(list int) {
	addr, length := g.spot(list)
	g.add(list, "uffd %#x %#x", addr, length)
}

func (g *generator) vdso(list int) {
	addr, _ := g.spot(list)
	g.add(list, "vdso %d %#x", g.IntN(2), addr)
}

// busy makes so many calls that an audit finds no quiet moment.
func (g *generator) busy(list int) {
	addr, length := g.spot(list)
	advice, n := g.one(unix.MADV_DOFORK, unix.MADV_NORMAL, unix.MADV_DONTFORK), g.one(1000, 20_000, 200_000)
	if g.use["traced"] { // each call stops twice, and the process has only so much time
		n = min(n, 20_000)
	}
	g.add(list, "busy %#x %#x %d %d", addr, length, advice, n)
}

// leave ends a thread, the first one too, before the others.
func (g *generator) leave(list int) {
	if list < g.p.threads && g.IntN(4) == 0 {
		g.add(list, "leave")
	}
}
