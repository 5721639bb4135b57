package main

import (
	"bufio"
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
	"testing"
	"time"

	"github.com/maptrace/maptrace/cmd/maptrace/internal/render"
	"github.com/maptrace/maptrace/testdata/leaks"
)

// suspect is a program of the suite while it is watched.
type suspect struct {
	leaks.Case
	*leaks.Program
	name      string // of its file
	found     []render.FindingObject
	unsampled string // why its heap is not, as told
}

// TestGrowFindsTheCulprits watches every program of testdata/leaks: the first
// finding of each must be its leak and name the function that leaks; where a
// program leaks nothing, and of what its innocents do, nothing may be called a
// leak. It prints a table of confusion.
func TestGrowFindsTheCulprits(t *testing.T) {
	needBPF(t)
	dir := t.TempDir()
	var all []*suspect
	argv := make(map[*suspect][]string)
	for _, c := range leaks.Cases() {
		if err := c.Missing(); err != nil {
			t.Logf("%s left out: %v", c.Name, err)
			continue
		}
		s := &suspect{Case: c}
		// Compilers are done before the first program is watched.
		argv[s] = leaks.Args(c.Build(t, dir), 10*time.Minute, 1<<20)
		s.name = filepath.Base(argv[s][0])
		all = append(all, s)
	}
	// Those that take longer are watched all the time that the others take together.
	var shared, others []*suspect
	for _, s := range all {
		if s.Shared {
			shared = append(shared, s)
		} else {
			others = append(others, s)
		}
	}
	start := func(group []*suspect) {
		for _, s := range group {
			s.Program = leaks.Start(t, dir, argv[s])
		}
		// What they do at their start is over after a second or two.
		time.Sleep(2 * time.Second)
	}
	end := func(group []*suspect) {
		for _, s := range group {
			_ = s.Process.Kill()
		}
	}
	start(shared)
	done := make(chan error)
	go func() { done <- watchSuspects(t, shared, time.Minute, time.Second) }()
	const together = 13
	for group := range slices.Chunk(others, together) {
		start(group)
		if err := watchSuspects(t, group, 12*time.Second, 300*time.Millisecond); err != nil {
			t.Error(err)
		}
		end(group)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	end(shared)
	table := make(map[string]map[string]int)
	count := func(who, verdict string) {
		if table[who] == nil {
			table[who] = make(map[string]int)
		}
		table[who][verdict]++
	}
	for _, s := range all {
		s.judge(t, count)
	}
	var b strings.Builder
	verdicts := []string{"leaks", "grows", "retained", "plateau", "sawtooth", "churns", "steady"}
	fmt.Fprintf(&b, "%-10s", "")
	for _, v := range verdicts {
		fmt.Fprintf(&b, " %8s", v)
	}
	for _, who := range []string{"culprits", "innocents", "others"} {
		fmt.Fprintf(&b, "\n%-10s", who)
		for _, v := range verdicts {
			fmt.Fprintf(&b, " %8d", table[who][v])
		}
	}
	t.Logf("verdicts on %d programs:\n%s", len(all), b.String())
}

// TestGrowNamesWhoKeepsAHeapOrNobody watches servers in whose heap innocents allocate a
// hundred times as much as is kept, where there is time at several rates: each has a heap that
// grows, and whoever a sentence names is who keeps it. Often that is nobody: the words are
// few.
func TestGrowNamesWhoKeepsAHeapOrNobody(t *testing.T) {
	needBPF(t)
	dir := t.TempDir()
	named, watched := 0, 0
	rates := []int{1 << 20}
	if long {
		rates = []int{512 << 10, 1 << 20, 2 << 20}
	}
	for _, rate := range rates {
		var group []*suspect
		for _, c := range leaks.Servers() {
			if err := c.Missing(); err != nil {
				t.Logf("%s left out: %v", c.Name, err)
				continue
			}
			argv := leaks.Args(c.Build(t, dir), 10*time.Minute, rate)
			group = append(group, &suspect{Case: c, Program: leaks.Start(t, dir, argv), name: filepath.Base(argv[0])})
		}
		if err := watchSuspects(t, group, 20*time.Second, 500*time.Millisecond); err != nil {
			t.Fatal(err)
		}
		for _, s := range group {
			_ = s.Process.Kill()
			if watched++; s.judgeHeap(t, rate) {
				named++
			}
		}
	}
	t.Logf("of %d heaps %d have a name", watched, named)
	if watched > 0 && named == 0 {
		t.Error("who keeps a heap is never named")
	}
}

// judgeHeap tells whether it is named who keeps a server's heap.
func (s *suspect) judgeHeap(t *testing.T, rate int) bool {
	t.Helper()
	grows := slices.ContainsFunc(s.found, func(f render.FindingObject) bool {
		return f.Shared && (f.Verdict == "leaks" || f.Verdict == "grows")
	})
	if !grows {
		t.Errorf("%s, %d bytes a second: no heap is seen to grow", s.Name, rate)
		return false
	}
	for i := range s.found {
		f := &s.found[i]
		if f.Verdict != "leaks" && f.Verdict != "grows" {
			continue
		}
		if f.Blamed != "" && f.Shared && !s.guilty(f) || names(f.Sentence, s.Innocents) {
			t.Errorf("%s, %d bytes a second: an innocent is named: %s\n\tkept by %v", s.Name, rate, f.Sentence, f.Kept)
		}
		if (f.Blamed == "") != (f.Confidence == 0) || f.Blamed != "" && f.Confidence < 0.95 {
			t.Errorf("%s: %q is blamed with a confidence of %v", s.Name, f.Blamed, f.Confidence)
		}
	}
	t.Logf("%s, %d bytes a second: %s", s.Name, rate, s.found[0].Sentence)
	return s.found[0].Blamed != ""
}

// watchSuspects runs grow on all of them at once. Where the machine is too busy for
// half of the looks that the time is for, they are watched again, for longer.
func watchSuspects(t *testing.T, group []*suspect, duration, interval time.Duration) error {
	t.Helper()
	enough := int(duration / interval / 2)
	for tries := 4; ; tries, duration = tries-1, 2*duration {
		looks, err := watchOnce(t, group, duration, interval)
		if err != nil || looks >= enough {
			return err
		}
		if tries == 1 {
			return fmt.Errorf("there were only %d looks in %s", looks, duration)
		}
	}
}

// watchOnce returns how many looks there were at the process that had the fewest.
func watchOnce(t *testing.T, group []*suspect, duration, interval time.Duration) (looks int, err error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "found")
	args := []string{"grow", "--for", duration.String(), "--interval", interval.String(), "-o", "json", "--to", file}
	of := make(map[int]*suspect)
	for _, s := range group {
		of[s.Process.Pid], s.found = s, nil
		args = append(args, "-p", strconv.Itoa(s.Process.Pid))
	}
	if out, failed := exec.CommandContext(t.Context(), binary(t), args...).CombinedOutput(); failed != nil {
		return 0, fmt.Errorf("grow: %w\n%s", failed, out)
	}
	f, err := os.Open(file)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 16<<20)
	watched := 0
	looks = math.MaxInt
	for lines.Scan() {
		var o struct {
			render.FindingObject
			Looks         int    `json:"looks"`
			HeapUnsampled string `json:"heap_unsampled"`
		}
		if err := json.Unmarshal(lines.Bytes(), &o); err != nil {
			return 0, fmt.Errorf("%s: %w", lines.Text(), err)
		}
		if of[o.PID] != nil && o.Event == "watch" {
			watched++
			looks = min(looks, o.Looks)
			of[o.PID].unsampled = o.HeapUnsampled
		}
		if s := of[o.PID]; s != nil && o.Event == "finding" {
			s.found = append(s.found, o.FindingObject)
		}
	}
	if watched != len(group) {
		return 0, errors.Join(lines.Err(), fmt.Errorf("%d of %d programs were watched", watched, len(group)))
	}
	return looks, lines.Err()
}

// judge compares what was found with what is known.
func (s *suspect) judge(t *testing.T, count func(who, verdict string)) {
	t.Helper()
	if len(s.found) == 0 {
		t.Errorf("%s: nothing was found", s.Name)
		return
	}
	for i := range s.found {
		f := &s.found[i]
		who := "others"
		switch {
		case s.guilty(f):
			who = "culprits"
		case names(f.Blamed, s.Innocents):
			who = "innocents"
		}
		if who == "innocents" && f.Shared {
			t.Errorf("%s: an innocent keeps a heap: %s", s.Name, f.Sentence)
		}
		count(who, f.Verdict)
		// What keeps pieces in a list makes the list grow as well.
		list := i > 0 && s.Shared && !s.innocent(f.Made)
		// Of a heap that many share the verdict alone accuses nobody: each thread that is
		// leaked has a part of malloc's arenas, say.
		nobody := f.Shared && f.Blamed == "" && s.What != leaks.Nothing
		if who != "culprits" && f.Verdict == "leaks" && !list && !nobody && (!s.Hidden || i > 0) {
			t.Errorf("%s: accused wrongly: %s", s.Name, f.Sentence)
		}
	}
	if s.What == leaks.Nothing {
		return
	}
	first := &s.found[0]
	switch {
	case first.Verdict != "leaks":
		t.Errorf("%s: only this of the culprit: %s", s.Name, first.Sentence)
	case s.Hidden && first.Words > 0 && !s.innocent(first.Kept):
		t.Logf("%s: %s", s.Name, first.Sentence)
	case !s.guilty(first):
		t.Errorf("%s: the first finding is not %v (%s+%#x) but: %s\n\tmade by %v\n\ttouched by %v\n\tkept by %v", s.Name, s.Culprit, s.name, s.Offset,
			first.Sentence, first.Made, first.Touched, first.Kept)
	default:
		t.Logf("%s: %s", s.Name, first.Sentence)
	}
}

// names tells whether one of some functions is in a sentence, by its whole name or as the
// beginning of one.
func names(sentence string, functions []string) bool {
	return slices.ContainsFunc(strings.Fields(sentence), func(word string) bool {
		return slices.ContainsFunc(functions, func(name string) bool { return strings.HasPrefix(word, name) })
	})
}

// innocent tells whether an innocent is on one of the stacks.
func (s *suspect) innocent(stacks []render.StackObject) bool {
	return slices.ContainsFunc(stacks, func(st render.StackObject) bool {
		return slices.ContainsFunc(st.Frames, func(frame string) bool {
			return slices.ContainsFunc(s.Innocents, func(name string) bool { return strings.HasPrefix(frame, name) })
		})
	})
}

// guilty tells whether a finding names the culprit: as who is blamed for the memory,
// or, where nobody is, as who wrote most of what stays, or who touches it. Of Java
// it is enough that it is on a stack that is shown.
func (s *suspect) guilty(f *render.FindingObject) bool {
	names := slices.Clone(s.Culprit)
	if s.Stripped && s.Prints {
		names = []string{fmt.Sprintf("%s+%#x", s.name, s.Offset)}
	}
	accused := []string{f.Blamed}
	switch {
	case f.Blamed != "":
	case len(f.Kept) > 0:
		accused = []string{f.Kept[0].By}
	case len(f.Touched) > 0:
		accused = f.Touched[0].Frames
	}
	if strings.HasPrefix(s.Name, "java") {
		for _, st := range slices.Concat(f.Made, f.Touched) {
			accused = append(accused, st.Frames...)
		}
	}
	return slices.ContainsFunc(accused, func(a string) bool {
		return slices.ContainsFunc(names, func(name string) bool {
			if strings.HasSuffix(a, " in "+name) {
				return true // and something was inlined into it
			}
			rest, ok := strings.CutPrefix(a, name)
			return ok && (rest == "" || !isWord(rest[0]))
		})
	})
}

// isWord tells whether a name goes on with c.
func isWord(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}
