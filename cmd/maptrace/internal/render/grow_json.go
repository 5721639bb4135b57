package render

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/procmaps/table"
	"github.com/maptrace/maptrace/procmaps/units"
	"github.com/maptrace/maptrace/tracer"
	"github.com/maptrace/maptrace/tracer/attribution"
	"github.com/maptrace/maptrace/tracer/event"
	"github.com/maptrace/maptrace/tracer/growth"
	"github.com/maptrace/maptrace/tracer/site"
	"github.com/maptrace/maptrace/tracer/stack"
)

// AnswerObject is one sentence of what a person reads first, the worst first.
type AnswerObject struct {
	Event string    `json:"event"` // "answer"
	Time  time.Time `json:"time"`
	// PID, NSPID and Comm are those of the process that it is about; of several processes
	// together, and of cgroups, the number is 0.
	PID   int        `json:"pid"`
	NSPID int        `json:"ns_pid,omitempty"`
	Comm  table.Name `json:"comm"`
	// Verdict is one of a finding, or "short" (to judge), "refused" (calls were refused
	// memory), or "unknown" (pages cannot be counted, or nothing was there to be looked at).
	Verdict  string `json:"verdict"`
	Sentence string `json:"sentence"`
	Why      string `json:"why,omitempty"` // what it rests on, if that is not in the sentence
	Next     string `json:"next"`          // what to do about it
}

// EncodeAnswer writes what is to be said of all, an object each sentence. Interrupted says
// that somebody has ended the watch, as by ^C.
func EncodeAnswer(enc *json.Encoder, groups []attribution.Group, all []Growth, interrupted bool, now time.Time) error {
	for _, s := range answer(groups, all, interrupted) {
		o := AnswerObject{Event: "answer", Time: now, Verdict: s.verdict(), Sentence: s.sentence, Why: s.why, Next: s.next}
		if s.of != nil {
			o.PID, o.NSPID, o.Comm = s.of.PID, s.of.NSPID, table.Name(s.of.Comm)
		}
		if err := enc.Encode(o); err != nil {
			return err
		}
	}
	return nil
}

// FindingObject is one finding of grow. Sizes are in bytes, times in seconds,
// shares from 0 to 1.
type FindingObject struct {
	Event    string     `json:"event"` // "finding"
	Time     time.Time  `json:"time"`
	PID      int        `json:"pid"`
	NSPID    int        `json:"ns_pid,omitempty"`
	Comm     table.Name `json:"comm"`
	Verdict  string     `json:"verdict"`
	Sentence string     `json:"sentence"`
	Reason   string     `json:"reason"`
	Next     string     `json:"next,omitempty"` // what to do about it, if it grows
	Kind     string     `json:"kind"`
	Name     table.Name `json:"name,omitempty"` // of the file or the memory; of memory that was there before, its addresses
	Subject  table.Name `json:"subject"`
	From     string     `json:"from,omitempty"`   // who made it for itself
	Blamed   string     `json:"blamed,omitempty"` // who is named in the sentence: who made it for itself, or who keeps it
	Measure  string     `json:"measure"`          // what the verdict is about: resident, writable, mapped, mappings
	Growth   float64    `json:"growth"`
	Slope    float64    `json:"slope"` // a second
	SlopeLow float64    `json:"slope_low"`
	SlopeTop float64    `json:"slope_high"`
	Monotone float64    `json:"monotone"`
	Mapped   uint64     `json:"mapped"`
	Writable uint64     `json:"writable"`
	Reserved uint64     `json:"reserved"`
	Resident uint64     `json:"resident"`
	Swapped  uint64     `json:"swapped"`
	Huge     uint64     `json:"huge"` // of resident, as huge pages
	Mappings int        `json:"mappings"`
	Born     uint64     `json:"born"`
	Died     uint64     `json:"died"`
	Alive    *float64   `json:"alive_share,omitempty"` // of what was born after the warm-up
	Age      float64    `json:"median_age"`
	Limit    string     `json:"limit,omitempty"`
	SplitBy  string     `json:"split_by,omitempty"` // who splits the mappings, where their number grows
	Series   [][2]any   `json:"series"`             // seconds since the start, and the measure

	// Confidence is how sure it is that it is who is blamed; without a name it is not there.
	Confidence float64 `json:"confidence,omitempty"`
	// Shared says that it is memory that many share: neither who made it nor who touched
	// it first need be who keeps it.
	Shared bool `json:"shared"`

	Made    []StackObject `json:"made_by"`
	Touched []StackObject `json:"touched_by"`
	Faults  uint64        `json:"faults"`        // that the shares of touched_by are of
	Kept    []StackObject `json:"kept_by"`       // the last to write to watched words that stayed
	Words   uint64        `json:"kept_words"`    // that the shares of kept_by are of
	Decided uint64        `json:"decided_words"` // those, and the ones that did not stay
	// Heap is who keeps a malloc heap, or Go's, by a sample of what is allocated in it.
	Heap *HeapObject `json:"heap,omitempty"`
}

// StackObject is a stack and its share.
type StackObject struct {
	By     string   `json:"by,omitempty"` // the function of kept_by that is meant
	Share  float64  `json:"share"`
	Bytes  uint64   `json:"bytes,omitempty"`
	Frames []string `json:"frames"` // innermost first
	End    string   `json:"end,omitempty"`
}

// WatchObject is one process that was watched, before its findings.
type WatchObject struct {
	Event     string     `json:"event"` // "watch"
	Time      time.Time  `json:"time"`
	PID       int        `json:"pid"`
	NSPID     int        `json:"ns_pid,omitempty"`
	Comm      table.Name `json:"comm"`
	Title     table.Name `json:"title,omitempty"` // what it shows in place of its arguments
	Exited    bool       `json:"exited"`
	Seconds   float64    `json:"seconds"`
	Looks     int        `json:"looks"`
	Picture   string     `json:"picture"`
	Estimated bool       `json:"estimated"`
	Unsampled uint64     `json:"unsampled"` // bytes made by calls without a stack
	// Uncounted says why resident memory could not be counted, or from some time on no
	// more, if so: the findings are of the time before.
	Uncounted string `json:"uncounted,omitempty"`
	// Unwatched says why no words were watched, or from some time on no more, if so.
	Unwatched string `json:"unwatched,omitempty"`
	// HeapUnsampled says why there was no sample of blocks of a heap, if so: neither ours, of
	// malloc heaps, nor a Go program's own.
	HeapUnsampled string `json:"heap_unsampled,omitempty"`
	// Malloc is what glibc's malloc holds, if it was read.
	Malloc *MallocObject `json:"malloc,omitempty"`
	// Account is what the kernel charges it for, if that was read.
	Account *AccountObject `json:"account,omitempty"`
	// Refused are calls that were refused memory.
	Refused []RefusedObject `json:"refused,omitempty"`
}

// AccountObject is what a process is charged for by the kernel's own figures, in bytes.
type AccountObject struct {
	First AccountFigures `json:"first"`
	Last  AccountFigures `json:"last"`
	// Grown is by how much what is resident, swapped out, in page tables and of hugetlb has
	// grown, Explained what of that is found in the groups.
	Grown     int64 `json:"grown"`
	Explained int64 `json:"explained"`
	// Off is what was not explained at the look where that was the most, below 0 if more was
	// than there is.
	Off int64 `json:"off"`
	// Partial says that not all descriptors were looked at for memory that they hold.
	Partial bool `json:"partial,omitempty"`
}

// AccountFigures are those of one look.
type AccountFigures struct {
	Resident   uint64 `json:"resident"`
	Anon       uint64 `json:"anon"`
	File       uint64 `json:"file"`
	Shmem      uint64 `json:"shmem"`
	Swapped    uint64 `json:"swapped"`
	PageTables uint64 `json:"page_tables"`
	Hugetlb    uint64 `json:"hugetlb"`
	Locked     uint64 `json:"locked"`
}

func accountObject(a *attribution.Account) *AccountObject {
	if a == nil {
		return nil
	}
	figures := func(b *event.Account) AccountFigures {
		return AccountFigures{b.Resident, b.Anon, b.File, b.Shmem, b.Swapped, b.PageTables, b.Hugetlb, b.Locked}
	}
	return &AccountObject{figures(&a.First), figures(&a.Last), a.Grown, a.Explained, a.Off, a.Last.Partial}
}

// RefusedObject is calls of one kind that were refused memory (ENOMEM).
type RefusedObject struct {
	Call     string        `json:"call"`
	Calls    uint64        `json:"calls"`
	Bytes    uint64        `json:"bytes,omitempty"` // the least that was asked for
	Sentence string        `json:"sentence"`
	By       string        `json:"by,omitempty"`
	Limits   []LimitObject `json:"limits"` // that are reached: more than one if it may be any of them
	Asked    []StackObject `json:"asked_by"`
}

// LimitObject is a limit, and what is used of it, in bytes or mappings.
type LimitObject struct {
	Name string `json:"name"`
	Used uint64 `json:"used"`
	Max  uint64 `json:"max"`
}

func refusedObjects(in []attribution.Refused) (out []RefusedObject) {
	for i := range in {
		r := &in[i]
		o := RefusedObject{
			Call: r.Op.String(), Calls: r.Calls, Bytes: r.Bytes, Sentence: refusal(r), By: r.By.Full,
			Limits: make([]LimitObject, len(r.Limits)), Asked: stackObjects(r.Asked),
		}
		for k, l := range r.Limits {
			o.Limits[k] = LimitObject{l.Name, l.Used, l.Max}
		}
		out = append(out, o)
	}
	return out
}

// GroupObject is several processes together, before its findings: a cgroup, with what it is
// charged for, or all processes. Sizes are in bytes.
type GroupObject struct {
	Event   string     `json:"event"` // "group"
	Time    time.Time  `json:"time"`
	Cgroup  table.Name `json:"cgroup,omitempty"`
	Seconds float64    `json:"seconds"`
	Looks   int        `json:"looks"`
	// Before and Now are how many processes there were at first, and are; not of a cgroup.
	Before int            `json:"processes_before,omitempty"`
	Now    int            `json:"processes,omitempty"`
	First  *ChargesObject `json:"first,omitempty"`
	Last   *ChargesObject `json:"last,omitempty"`
	// What of anonymous and shared memory the processes of a cgroup have, each by its own figures.
	Anon  uint64 `json:"processes_anon,omitempty"`
	Shmem uint64 `json:"processes_shmem,omitempty"`
	// What is of none of those that are watched, at least.
	OtherAnon  uint64 `json:"other_anon,omitempty"`
	OtherShmem uint64 `json:"other_shmem,omitempty"`
	// Files are those that are open of which there is most more in the page cache.
	Files []CachedObject `json:"files,omitempty"`
}

// CachedObject is what of a file is in the page cache, in bytes.
type CachedObject struct {
	Path   table.Name `json:"path"`
	Cached uint64     `json:"cached"`
	Dirty  uint64     `json:"dirty"`
	Grown  uint64     `json:"grown"`
}

// ChargesObject is what a cgroup is charged for, in bytes.
type ChargesObject struct {
	Used        uint64  `json:"used"`
	Max         *uint64 `json:"max,omitempty"`
	Anon        uint64  `json:"anon"`
	File        uint64  `json:"file"` // page cache, without shared memory
	Dirty       uint64  `json:"file_dirty"`
	Unevictable uint64  `json:"unevictable"`
	Shmem       uint64  `json:"shmem"`
	Kernel      uint64  `json:"kernel"`
	Reclaimable uint64  `json:"slab_reclaimable"`
	Sock        uint64  `json:"sock"`
	Swap        uint64  `json:"swap"`
}

func chargesObject(m *procmaps.GroupMemory) *ChargesObject {
	o := &ChargesObject{
		Used: m.Used, Anon: m.Anon, File: m.File, Dirty: m.Dirty, Unevictable: m.Unevictable, Shmem: m.Shmem, Kernel: m.Kernel, Reclaimable: m.Reclaimable, Sock: m.Sock, Swap: m.Swap,
	}
	if m.Max != procmaps.Unlimited {
		o.Max = &m.Max
	}
	return o
}

// EncodeGroup writes what several processes have together, and its findings, an object each.
func EncodeGroup(enc *json.Encoder, g *attribution.Group, now time.Time) error {
	o := GroupObject{Event: "group", Time: now, Cgroup: table.Name(g.Name), Seconds: g.Watched.Seconds(), Looks: g.Ticks, Before: g.Before, Now: g.Now}
	if g.Name != "" {
		o.First, o.Last, o.Anon, o.Shmem = chargesObject(&g.First), chargesObject(&g.Last), g.Anon, g.Shmem
		o.OtherAnon, o.OtherShmem = g.Elsewhere.Anon, g.Elsewhere.Shmem
	}
	for _, f := range g.Files {
		o.Files = append(o.Files, CachedObject{table.Name(f.Path), f.Bytes, f.Dirty, f.Grown})
	}
	err := enc.Encode(o)
	for i := range g.Findings {
		if err != nil {
			return err
		}
		f := &g.Findings[i]
		o := findingObject(&Growth{}, f, now)
		if f.Label >= growth.Retained {
			o.Next = next(f, longer(g.Watched), "")
		}
		err = enc.Encode(o)
	}
	return err
}

// EncodeGrowth writes a process and its findings, an object each.
func EncodeGrowth(enc *json.Encoder, g *Growth, now time.Time) error {
	err := enc.Encode(WatchObject{
		Event: "watch", Time: now, PID: g.PID, NSPID: g.NSPID, Comm: table.Name(g.Comm), Title: table.Name(g.Title), Exited: g.Exited, Seconds: g.Watched.Seconds(),
		Looks: g.Ticks, Picture: g.Accuracy, Estimated: g.Estimated, Unsampled: g.Unsampled,
		Uncounted: g.Uncounted, Unwatched: g.Unwatched, HeapUnsampled: g.HeapUnsampled, Malloc: (*MallocObject)(g.Malloc),
		Account: accountObject(g.Account), Refused: refusedObjects(g.Refused),
	})
	for i := range g.Findings {
		if err != nil {
			return err
		}
		f := &g.Findings[i]
		o := findingObject(g, f, now)
		if f.Label >= growth.Retained {
			o.Next = g.next(f)
		}
		err = enc.Encode(o)
	}
	return err
}

func findingObject(of *Growth, g *attribution.Finding, now time.Time) FindingObject {
	o := FindingObject{
		Event: "finding", Time: now, PID: of.PID, NSPID: of.NSPID, Comm: table.Name(of.Comm),
		Verdict: g.Label.String(), Sentence: Sentence(g), Reason: reason(&g.Finding),
		Kind: g.What.String(), Name: table.Name(g.Name), Subject: table.Name(g.Subject), From: g.From.Full,
		Measure: g.Measure.String(), Growth: g.Growth, Slope: g.Slope, SlopeLow: g.SlopeLow, SlopeTop: g.SlopeHigh,
		Monotone: g.Monotone, Mapped: g.Last.Mapped, Writable: g.Last.Writable, Reserved: g.Last.Reserved, Resident: g.Last.Resident, Swapped: g.Last.Swapped, Huge: g.Last.Huge,
		Mappings: g.Last.Mappings, Born: g.Born, Died: g.Died, Age: g.MedianAge.Seconds(),
		Made: stackObjects(g.Made), Touched: stackObjects(g.Touched), Faults: g.Faults,
		Kept: stackObjects(g.Kept), Words: g.Words, Decided: g.Decided, Shared: g.Shared,
		Heap: heapObject(g), Series: make([][2]any, 0, len(g.Series)),
	}
	if g.Label >= growth.Retained { // else the sentence names nobody
		o.Blamed, o.Confidence = g.Blamed().Full, g.Confidence()
	}
	o.SplitBy = g.SplitBy.Full
	if g.Limit != nil {
		o.Limit = limit(g.Limit)
	}
	if g.AliveOf > 0 {
		o.Alive = &g.AliveShare
	}
	for _, p := range g.Series {
		o.Series = append(o.Series, [2]any{p.At.Seconds(), p.High.Of(g.Measure)})
	}
	return o
}

func stackObjects(in []attribution.Stack) []StackObject {
	out := make([]StackObject, len(in))
	for i, s := range in {
		out[i] = StackObject{By: s.By.Full, Share: s.Share, Bytes: s.Bytes, Frames: fullNames(s.Frames), End: s.End}
	}
	return out
}

// GrowthSummary is how well a watch went: what was counted, and what is missing.
type GrowthSummary struct {
	Event   string            `json:"event"` // "summary"
	Time    time.Time         `json:"time"`
	Calls   uint64            `json:"calls"`
	Lost    uint64            `json:"lost"`
	Stacks  uint64            `json:"stacks"`
	Ends    map[string]uint64 `json:"stack_ends"` // why they ended
	Sites   int               `json:"sites"`
	Missing map[string]uint64 `json:"stacks_missing"` // by the reason
	Faults  uint64            `json:"faults"`
	Sampled uint64            `json:"faults_sampled"`
	// Words are what became of those that were watched.
	Words WordsObject `json:"watched_words"`
	// Heaps is what sampling blocks of heaps has cost.
	Heaps HeapsObject `json:"heaps"`
	// Readings is how often it was read what a malloc holds, and ReadingTime the CPU time
	// that this took, about.
	Readings    uint64  `json:"malloc_readings,omitempty"`
	ReadingTime float64 `json:"malloc_seconds,omitempty"`
	// Unseen says why page faults were not seen, if so.
	Unseen string `json:"faults_unseen,omitempty"`
	// FilesDenied are files that may not be read: code in them has no names.
	FilesDenied int `json:"files_denied,omitempty"`
	// NamesMissing says why names of code are missing.
	NamesMissing []string `json:"names_missing,omitempty"`
	// Counting says how resident pages were counted, and what it cost.
	Counting   string  `json:"counting"`
	CountCalls uint64  `json:"count_calls"`
	CountBusy  float64 `json:"count_seconds"` // the targets' mmap locks were held, for reading
	CountMost  float64 `json:"count_longest"` // at once
	// Whole is how often everything of a process was counted, by the reason.
	Whole map[string]uint64 `json:"whole_counts"`
	// Memory is what was kept of all processes, and what had to make room.
	Memory MemoryObject `json:"memory"`
}

// MemoryObject is what is kept within the budget, in bytes.
type MemoryObject struct {
	Budget        uint64 `json:"budget"`
	Stacks        int    `json:"stacks"`
	StacksEvicted uint64 `json:"stacks_evicted"`
	Series        int    `json:"series"`
	SeriesPeak    int    `json:"series_peak"`
	GroupsEvicted int    `json:"groups_evicted"` // from among those that have a series
	Parts         int    `json:"parts"`          // who made, touched and keeps it
	PartsPeak     int    `json:"parts_peak"`
	// Coarsened is of how many address spaces the extents were too many.
	Coarsened uint64 `json:"spaces_coarsened"`
	// Unkept is how many address spaces were given up, as all have too many mappings.
	Unkept uint64 `json:"spaces_unkept"`
}

// WordsObject says what became of the words that were watched to tell who keeps memory.
type WordsObject struct {
	Watched   uint64 `json:"watched"`
	Passed    uint64 `json:"passed"` // beside these: enough of the same first writer were watched
	Stayed    uint64 `json:"stayed"`
	Rewritten uint64 `json:"rewritten"`
	Returned  uint64 `json:"returned"` // with their memory
	Unwritten uint64 `json:"unwritten"`
	Missed    uint64 `json:"missed"` // who wrote last is not known
}

// SummarizeGrowth makes the summary of a watch.
func SummarizeGrowth(stats *tracer.Stats, sites site.Stats, e event.Effort, now time.Time) *GrowthSummary {
	s := &GrowthSummary{
		Event: "summary", Time: now, Calls: stats.Calls, Lost: stats.Lost, Stacks: sites.Stacks, Sites: sites.Sites,
		Ends: make(map[string]uint64), Missing: e.Missing, Faults: e.Faults, Sampled: stats.Faults,
		Words: WordsObject(e.Words), Unseen: e.Unseen, FilesDenied: sites.Denied, NamesMissing: sites.NamesMissing(), Counting: "PAGEMAP_SCAN",
		CountCalls: e.CountCalls, CountBusy: float64(e.CountBusyNs) / 1e9, CountMost: float64(e.CountMostNs) / 1e9,
		Whole: e.Whole, Readings: e.Readings, ReadingTime: float64(e.ReadingNs) / 1e9,
		Heaps: HeapsObject{
			Processes: e.Heaps.Processes, Bursts: e.Heaps.Bursts, Probed: float64(e.Heaps.ProbedNs) / 1e9, Watched: float64(e.Heaps.WatchedNs) / 1e9,
			Calls: e.Heaps.Calls, Blocks: e.Heaps.Blocks, Dropped: e.Heaps.Dropped, Cost: float64(e.Heaps.CostNs) / 1e9,
			GoProfiles: e.Heaps.Profiles, GoCPU: float64(e.Heaps.ProfileNs) / 1e9,
		},
	}
	if e.Pagemap {
		s.Counting = "pagemap"
	}
	for end, n := range sites.Ends {
		if n > 0 {
			s.Ends[stack.End(end).String()] = n
		}
	}
	return s
}

// Broken says how a rule is broken.
func Broken(r *attribution.Rule, b attribution.Broken) string {
	if b.Leak != nil {
		return Sentence(b.Leak)
	}
	return fmt.Sprintf("%s: %s/min", r.Text, units.Bytes(b.Rate*60))
}

// Write writes what is missing, or was not as it should be, for people; nothing if all is
// well. Text is folded to a width, unless that is 0.
func (s *GrowthSummary) Write(w io.Writer, width int) error {
	var all []string
	say := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	if s.Lost > 0 {
		say("lost %d of the kernel's records: what they tell of was read again", s.Lost)
	}
	for _, why := range slices.Sorted(maps.Keys(s.Missing)) {
		if why == event.ByChance {
			continue // as it is meant to be, and told where figures rest on it
		}
		say("%d calls or faults are without a stack: %s", s.Missing[why], why)
	}
	const few = 0.9
	if whole := float64(s.Ends["root"]) / float64(max(s.Stacks, 1)); s.Stacks > 0 && whole < few {
		why := fmt.Appendf(nil, "%s of %d stacks are whole", units.Percent(whole), s.Stacks)
		for _, end := range slices.Sorted(maps.Keys(s.Ends)) {
			if end != "root" {
				why = fmt.Appendf(why, ", %d %s", s.Ends[end], end)
			}
		}
		all = append(all, string(why))
	}
	if n := s.Memory.Coarsened; n > 0 {
		say("neighbouring extents of %s were made one, as --memory was reached: which of several sites holds what of them is estimated",
			units.Count(n, "address space"))
	}
	if n := s.Memory.Unkept; n > 0 {
		say("the mappings of %s are not kept, as all have too many: --memory was reached", units.Count(n, "address space"))
	}
	if s.Unseen != "" {
		say("no page faults were seen, so who touches memory is not known: %s", table.Escape(s.Unseen))
	}
	if n := s.Heaps.Dropped; n > 0 {
		say("%s of heaps could not be reported", units.Count(n, "sample"))
	}
	if len(all) == 0 {
		return nil
	}
	b := []byte{'\n'}
	for _, text := range all {
		b = append(append(b, fold(text, width, 2)...), '\n')
	}
	_, err := w.Write(b)
	return err
}

// WriteEffort writes for people what was counted, and what the watch has cost.
func (s *GrowthSummary) WriteEffort(w io.Writer) error {
	b := fmt.Appendf(nil, "%d calls, lost %d; %d stacks", s.Calls, s.Lost, s.Stacks)
	if s.Stacks > 0 {
		b = fmt.Appendf(b, ", %s whole", units.Percent(float64(s.Ends["root"])/float64(s.Stacks)))
	}
	b = append(b, '\n')
	if h := &s.Heaps; h.Bursts > 0 {
		b = fmt.Appendf(b, "%s of %s sampled, allocators probed for %s of %s: %s of a CPU\n",
			units.Count(h.Blocks, "block"), units.Count(h.Calls, "call"), seconds(h.Probed), seconds(h.Watched), units.Percent(h.Cost/max(h.Watched, 1e-9)))
	}
	if h := &s.Heaps; h.GoProfiles > 0 {
		b = fmt.Appendf(b, "heap profiles of Go programs were read %s, in %s of CPU time\n", often(h.GoProfiles), milliseconds(h.GoCPU))
	}
	if n := s.Words.Watched; n > 0 {
		b = fmt.Appendf(b, "%d words were watched: %d stayed, %d were written again and again, %d given back, %d not written, %d missed\n",
			n, s.Words.Stayed, s.Words.Rewritten, s.Words.Returned, s.Words.Unwritten, s.Words.Missed)
	}
	b = fmt.Appendf(b, "%d page faults, %d sampled; resident pages by %s: %s in all, %s at most at once\n",
		s.Faults, s.Sampled, s.Counting, milliseconds(s.CountBusy), milliseconds(s.CountMost))
	m := &s.Memory
	b = fmt.Appendf(b, "kept of %s: %s of stacks (%d evicted), %s of series (%s at most, %d groups evicted), %s of their parts (%s at most)\n",
		units.Bytes(float64(m.Budget)), units.Bytes(float64(m.Stacks)), m.StacksEvicted,
		units.Bytes(float64(m.Series)), units.Bytes(float64(m.SeriesPeak)), m.GroupsEvicted,
		units.Bytes(float64(m.Parts)), units.Bytes(float64(m.PartsPeak)))
	for _, why := range slices.Sorted(maps.Keys(s.Whole)) {
		b = fmt.Appendf(b, "everything of a process was counted %s: %s\n", often(s.Whole[why]), why)
	}
	_, err := w.Write(b)
	return err
}

func seconds(s float64) string { return fmt.Sprintf("%.1f s", s) }

func milliseconds(s float64) string { return fmt.Sprintf("%.1f ms", 1e3*s) }
