package main

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// console is what a guest told.
type console struct {
	steps   map[string]*result
	tainted string // what /proc/sys/kernel/tainted said; "" if nothing
	done    bool
}

// result is how a step ended.
type result struct {
	status  int
	seconds float64
	ended   bool
	lines   []string
}

// parseConsole takes apart what /init and the steps printed. What it cannot make
// anything of, as the kernel's own messages, stays with the step it is in.
func parseConsole(text string) *console {
	c := &console{steps: map[string]*result{}}
	var in *result
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		f := strings.Fields(line)
		if len(f) < 2 || f[0] != "@" {
			if in != nil {
				in.lines = append(in.lines, line)
			}
			continue
		}
		switch {
		case f[1] == "begin" && len(f) == 3:
			in = &result{}
			c.steps[f[2]] = in
		case f[1] == "end" && len(f) == 5 && in != nil && in == c.steps[f[2]]:
			status, err := strconv.Atoi(f[3])
			if err == nil {
				in.seconds, err = strconv.ParseFloat(f[4], 64)
			}
			in.status, in.ended = status, err == nil
			in = nil
		case f[1] == "tainted" && len(f) == 3:
			c.tainted = f[2]
		case f[1] == "done" && len(f) == 2:
			c.done = true
		}
	}
	return c
}

// verdict is what a guest's run comes to.
type verdict struct {
	version string // of the kernel, as doctor printed it
	less    []string
	fails   []string
	passed  int
	skipped int
	story   string
	growth  string
	wrong   []string // why it failed; empty if it did not
}

func (v *verdict) fault(format string, args ...any) {
	v.wrong = append(v.wrong, fmt.Sprintf(format, args...))
}

// judge compares what a guest told with what the table expects of its kernel.
func (t *table) judge(k *kernel, c *console) *verdict {
	v := &verdict{}
	for _, s := range t.plan(k) {
		r := c.steps[s.Name]
		switch {
		case r == nil:
			v.fault("%s did not begin", s.Name)
		case !r.ended:
			v.fault("%s did not end", s.Name)
		}
	}
	switch {
	case !c.done:
		v.fault("the machine was not done")
	case c.tainted != "0":
		v.fault("the kernel is tainted: %s", c.tainted)
	}
	if len(v.wrong) > 0 {
		return v
	}
	t.judgeDoctor(k, c.steps[stepDoctor], v)
	if k.refused != "" {
		judgeRefusal(c, v)
		return v
	}
	for i := range t.suites {
		judgeSuite(k, &t.suites[i], c.steps[t.suites[i].name()], v)
	}
	if len(t.suites) > 0 && v.passed == 0 {
		v.fault("no test was run")
	}
	if k.no32 == "" {
		judgeSmall(k, c.steps[stepSmall], v)
	}
	judgeStory(k, c, v)
	judgeGrowth(c, v)
	return v
}

// checkLine is a line of doctor's: verdict, name, what it is for.
var checkLine = regexp.MustCompile(`^(ok|less|FAIL) +(\S.*?)  +\S`)

// judgeDoctor compares doctor's verdicts with the table: a feature that is lost and one
// that is gained are both a reason to look.
func (t *table) judgeDoctor(k *kernel, r *result, v *verdict) {
	found := map[string]string{}
	for _, line := range r.lines {
		if m := checkLine.FindStringSubmatch(line); m != nil {
			found[m[2]] = m[1]
		}
		if rest, ok := strings.CutPrefix(line, "kernel "); ok {
			v.version = strings.TrimSpace(rest)
		}
	}
	for _, name := range t.checks {
		want := "ok"
		switch {
		case k.less[name] != "":
			want = "less"
		case k.fails[name] != "":
			want = "FAIL"
		}
		got, ok := found[name]
		switch got {
		case "less":
			v.less = append(v.less, name)
		case "FAIL":
			v.fails = append(v.fails, name)
		}
		switch {
		case !ok:
			v.fault("doctor says nothing of %s", name)
		case got == "ok" && want != "ok":
			v.fault("gained: doctor finds %s, which the table calls missing", name)
		case got != want:
			v.fault("lost: doctor says %s to %s, not %s", got, name, want)
		}
	}
	for name, got := range found {
		if !slices.Contains(t.checks, name) && got != "ok" {
			v.fault("doctor says %s to %s, which the table does not have", got, name)
		}
	}
	want := 0
	if k.refused != "" {
		want = exitRefused
	}
	if r.status != want {
		v.fault("doctor ended with %d, not %d", r.status, want)
	}
}

// exitRefused is maptrace's status where it is not permitted or not supported.
const exitRefused = 4

// judgeRefusal wants trace to refuse in a few words and pmap to work.
func judgeRefusal(c *console, v *verdict) {
	if r := c.steps[stepTrace]; r.status != exitRefused || !said(r.lines, "maptrace") {
		v.fault("trace ended with %d and said %q, not with %d and a reason", r.status, r.lines, exitRefused)
	}
	if r := c.steps[stepPmap]; r.status != 0 || !said(r.lines, "total kB") {
		v.fault("pmap ended with %d and printed %d lines", r.status, len(r.lines))
	}
	v.story, v.growth = "refused", "refused"
}

func said(lines []string, what string) bool {
	return slices.ContainsFunc(lines, func(l string) bool { return strings.Contains(l, what) })
}

// testLine is what go test -v prints of each test and subtest.
var testLine = regexp.MustCompile(`^ *--- (PASS|FAIL|SKIP): (\S+)`)

// judgeSuite wants every test passed but those that the table lets skip, which must.
func judgeSuite(k *kernel, s *suite, r *result, v *verdict) {
	skipped := map[string]bool{}
	said := "" // since the line before of a test
	for _, line := range r.lines {
		m := testLine.FindStringSubmatch(line)
		switch {
		case m == nil && strings.HasPrefix(line, "==="):
			said = ""
			continue
		case m == nil:
			said += "\n    " + strings.TrimSpace(line)
			continue
		}
		name := s.name() + "." + m[2]
		switch m[1] {
		case "PASS":
			v.passed++
		case "FAIL":
			v.fault("%s failed%s", name, said)
		case "SKIP":
			v.skipped++
			skipped[name] = true
			if k.skips[name] == "" {
				v.fault("%s was skipped, which the table does not allow", name)
			}
		}
		said = ""
	}
	for name := range k.skips {
		if strings.HasPrefix(name, s.name()+".") && !skipped[name] {
			v.fault("gained: %s was not skipped, as the table says", name)
		}
	}
	if r.status != 0 {
		v.fault("the tests of %s ended with %d", s.dir, r.status)
	}
}

// event is what is looked at of a line of maptrace trace --json.
type event struct {
	Event   string `json:"event"`
	PID     int    `json:"pid"`
	Address string `json:"address"`
	Size    uint64 `json:"size"`
	Child   int    `json:"child"`
	Status  *int   `json:"status"`

	// table
	Picture string   `json:"picture"`
	Regions []region `json:"regions"`

	// summary
	Ordering   string `json:"ordering"`
	Calls      int    `json:"calls"`
	Missed     int    `json:"missed"`
	Other      int    `json:"other"`
	Lost       int    `json:"lost"`
	Skipped    int    `json:"skipped"`
	Violations int    `json:"violations"`
	Drift      int    `json:"drift"`
	Audits     int    `json:"audits"`
}

type region struct {
	Address string `json:"address"`
	Size    uint64 `json:"size"`
	Mode    string `json:"mode"`
	Mapping string `json:"mapping"`
}

// judgeStory compares what was traced with what the program says it did.
func judgeStory(k *kernel, c *console, v *verdict) {
	if s := c.steps[stepTrace].status; s != 0 {
		v.fault("trace ended with %d", s)
	}
	events, err := parseEvents(c.steps[stepEvents].lines)
	if err != nil {
		v.fault("what trace printed: %v", err)
		return
	}
	if told := k.told(events); told != "" {
		v.story = told
		return
	}
	before := len(v.wrong)
	st := parseStory(c.steps[stepTrace].lines)
	pid := 0
	for _, e := range events {
		if e.Event == "fork" && e.Child != 0 && e.Child == st.child {
			pid = e.PID
		}
	}
	switch {
	case pid == 0:
		v.fault("the story's child %d is in no fork", st.child)
		return
	case st.childStatus != 7:
		v.fault("the story's child ended with %d", st.childStatus)
	case len(st.did) < 10:
		v.fault("the story told of %d calls", len(st.did))
	}
	for _, d := range st.did {
		if !slices.ContainsFunc(events, func(e event) bool {
			return e.PID == pid && e.Event == d.Event && e.Address == d.Address && e.Size == d.Size
		}) {
			v.fault("not seen: %s of %d bytes at %s", d.Event, d.Size, d.Address)
		}
	}
	for _, what := range []string{"munmap", "exec", "exit"} {
		if !slices.ContainsFunc(events, func(e event) bool {
			return e.PID == st.child && e.Event == what && (what != "exit" || e.Status != nil && *e.Status == 7)
		}) {
			v.fault("not seen: %s of the child", what)
		}
	}
	for _, e := range events {
		switch {
		case e.Event == "table" && e.PID == pid:
			if e.Picture != "exact" {
				v.fault("the picture is %s", e.Picture)
			}
			compareMaps(st.maps, e.Regions, v)
		case e.Event == "summary":
			judgeSummary(k, &e, v)
		}
	}
	if len(v.wrong) == before {
		v.story = "exact, by " + events[len(events)-1].Ordering
	}
}

// told is what trace says of itself where the kernel has skipped its programs, which it
// cannot help, and it admits that it is not exact: then what it shows may be wrong. It is
// empty for a run that has to be right.
func (k *kernel) told(events []event) string {
	var picture string
	skipped := 0
	for _, e := range events {
		switch {
		case e.Event == "table" && e.Picture != "exact":
			picture = e.Picture
		case e.Event == "summary":
			skipped = e.Skipped
		}
	}
	if k.preempts == "" || skipped == 0 || picture == "" {
		return ""
	}
	return fmt.Sprintf("%s; %d skipped", picture, skipped)
}

// judgeSmall wants a 32-bit program's changes to be followed, though none is decoded.
func judgeSmall(k *kernel, r *result, v *verdict) {
	if r.status != 0 {
		v.fault("trace of a 32-bit program ended with %d", r.status)
	}
	events, err := parseEvents(r.lines)
	if err != nil {
		v.fault("what trace of a 32-bit program printed: %v", err)
		return
	}
	if k.told(events) != "" {
		return
	}
	for _, e := range events {
		switch e.Event {
		case "table":
			if e.Picture != "exact" {
				v.fault("the picture of a 32-bit program is %s", e.Picture)
			}
			compareMaps(parseStory(r.lines).maps, e.Regions, v)
		case "summary":
			judgeSummary(k, &e, v)
			if e.Calls != 0 || e.Other < 20 {
				v.fault("of a 32-bit program %d calls were decoded, and %d sections seen", e.Calls, e.Other)
			}
		}
	}
}

func judgeSummary(k *kernel, e *event, v *verdict) {
	want := "section"
	if k.less["mm_lock_seq"] != "" {
		want = "time"
	}
	if e.Ordering != want {
		v.fault("ordered by %s, not by %s", e.Ordering, want)
	}
	if e.Missed+e.Lost+e.Violations+e.Drift > 0 || e.Audits == 0 {
		v.fault("missed %d, lost %d, violations %d, drift %d, audits %d", e.Missed, e.Lost, e.Violations, e.Drift, e.Audits)
	}
}

// parseEvents wants each line to be an object, and a summary last.
func parseEvents(lines []string) ([]event, error) {
	var out []event
	for _, line := range lines {
		if !strings.HasPrefix(line, "{") {
			continue
		}
		var e event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			return nil, fmt.Errorf("%w in %q", err, line)
		}
		out = append(out, e)
	}
	if len(out) == 0 || out[len(out)-1].Event != "summary" {
		return nil, fmt.Errorf("%d lines and no summary", len(out))
	}
	return out, nil
}

// told is what the story says of itself.
type told struct {
	did         []event
	child       int
	childStatus int
	maps        []region
}

// mapsLine is a line of /proc/PID/maps: range, mode, offset, device, inode, name.
var mapsLine = regexp.MustCompile(`^([0-9a-f]+)-([0-9a-f]+) ([-rwxsp]{4}) [0-9a-f]+ [0-9a-f]+:[0-9a-f]+ \d+ *(.*)$`)

func parseStory(lines []string) *told {
	st := &told{}
	for _, line := range lines {
		f := strings.Fields(line)
		switch {
		case len(f) == 4 && f[0] == "did":
			size, _ := strconv.ParseUint(f[3], 10, 64) // 0 will not be found
			st.did = append(st.did, event{Event: f[1], Address: "0x" + f[2], Size: size})
		case len(f) == 3 && f[0] == "child":
			st.child, _ = strconv.Atoi(f[1])
			st.childStatus, _ = strconv.Atoi(f[2])
		default:
			m := mapsLine.FindStringSubmatch(line)
			if m == nil {
				continue
			}
			from, _ := strconv.ParseUint(m[1], 16, 64) // the expression has tried them
			to, _ := strconv.ParseUint(m[2], 16, 64)
			st.maps = append(st.maps, region{"0x" + m[1], to - from, m[3], m[4]})
		}
	}
	return st
}

// compareMaps compares the story's maps with the table. The kernel may show as several
// rows what the table has as one.
func compareMaps(maps, regions []region, v *verdict) {
	want, got := joined(maps), joined(regions)
	if len(want) == 0 {
		v.fault("the story printed no maps")
	}
	for i := 0; i < len(want) || i < len(got); i++ {
		switch {
		case i >= len(want) || i >= len(got):
			v.fault("the maps have %d rows, the table %d", len(want), len(got))
			return
		case want[i] != got[i]:
			v.fault("the maps have %v, the table %v", want[i], got[i])
			return
		}
	}
}

// row is a region with its range as numbers.
type row struct {
	from, to   uint64
	mode, name string
}

func (r row) String() string { return fmt.Sprintf("%x-%x %s %s", r.from, r.to, r.mode, r.name) }

// joined joins neighbours that differ in nothing but their place. What no user's call
// can change lies above all users' addresses.
func joined(regions []region) []row {
	var out []row
	for _, r := range regions {
		from, err := strconv.ParseUint(r.Address, 0, 64)
		if err != nil || from >= 1<<63 {
			continue
		}
		n := row{from, from + r.Size, r.Mode, r.Mapping}
		if l := len(out) - 1; l >= 0 && out[l].to == n.from && out[l].mode == n.mode && out[l].name == n.name {
			out[l].to = n.to
			continue
		}
		out = append(out, n)
	}
	return out
}

// culprit is the function of the story that forgets memory.
const culprit = "main.forget"

// judgeGrowth wants the culprit, and only it, to be called a leak.
func judgeGrowth(c *console, v *verdict) {
	for _, name := range []string{stepGrow, stepAgain} {
		if s := c.steps[name].status; s != 0 {
			v.fault("%s ended with %d", name, s)
		}
	}
	named := 0
	for _, line := range c.steps[stepGrown].lines {
		var f struct{ Event, Verdict, From, Sentence string }
		if !strings.HasPrefix(line, "{") || json.Unmarshal([]byte(line), &f) != nil || f.Event != "finding" {
			continue
		}
		switch {
		case strings.HasPrefix(f.From, culprit+" ") && (f.Verdict == "leaks" || f.Verdict == "grows"):
			named++
			v.growth = f.Verdict + ": " + culprit
		case f.Verdict == "leaks":
			v.fault("an innocent is called a leak: %s", f.Sentence)
		}
	}
	if named != 1 {
		v.fault("grow names %s %d times", culprit, named)
	}
}
