package render

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/maptrace/maptrace/cmd/maptrace/internal/tui"
	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/procmaps/table"
	"github.com/maptrace/maptrace/procmaps/units"
	"github.com/maptrace/maptrace/tracer/explain"
)

// Explanation is what is printed of an address.
type Explanation struct {
	Source string // "process", "core" or "report"
	PID    int    // 0 if it is not known
	Comm   string // raw
	// Answer is about the address, nil for a signal that has none.
	Answer *explain.Answer
	// Fault is the signal that there is no Answer of, nil if there is no such.
	Fault *explain.Fault
	// At is about the instruction that did it, nil if it is not known, or not asked for.
	At *explain.Answer
}

// The text is pasted into reports of bugs: how wide it is, and how many lines it has at most.
const (
	explainColumns = 80
	explainLines   = 10
)

// WriteExplanation prints an explanation as text of at most ten lines, the answer first.
func WriteExplanation(w io.Writer, e *Explanation) error {
	var x explanationText
	about := e.Answer
	if about != nil {
		x.add("", sentence(about), 3)
	} else {
		x.add("", unaddressed(e.Fault, e.PID), 2)
		about = e.At
	}
	if e.Answer != nil && e.Answer.Fault != nil {
		x.add("why", whyText(e.Answer), 2)
	}
	if e.At != nil && (e.Answer == nil || e.At.Address != e.Answer.Address) {
		x.add("at", atText(e), 2)
	}
	if about != nil {
		x.facts(about)
	}
	_, err := io.WriteString(w, x.text())
	return err
}

// explanationText are the parts of an explanation, in lines.
type explanationText struct{ parts [][]string }

// explainIndent is where text begins behind the word that says what it is about.
const explainIndent = 9

// add adds text, escaped already, behind a word with a column of its own, in so many lines
// at most.
func (x *explanationText) add(word, text string, most int) {
	if word != "" {
		text = fmt.Sprintf("%-*s%s", explainIndent, word, text)
	}
	x.parts = append(x.parts, cutLines(tui.Wrap(text, explainColumns, explainIndent, true), most))
}

// cutLines makes what are more lines end in an ellipsis.
func cutLines(lines []string, most int) []string {
	if len(lines) <= most {
		return lines
	}
	last := lines[most-1] + " " + strings.TrimLeft(lines[most], " ")
	if len(lines) > most+1 {
		last += " " + strings.Repeat(".", explainColumns) // so that it is cut
	}
	return append(lines[:most-1:most-1], tui.Cut(last, explainColumns, false))
}

// text is all of it. If it is too long, what is last and has several lines has less.
func (x *explanationText) text() string {
	n := 0
	for _, p := range x.parts {
		n += len(p)
	}
	for i := len(x.parts) - 1; i >= 0 && n > explainLines; i-- {
		if fewer := max(1, len(x.parts[i])-(n-explainLines)); fewer < len(x.parts[i]) {
			n -= len(x.parts[i]) - fewer
			x.parts[i] = cutLines(x.parts[i], fewer)
		}
	}
	return strings.Join(slices.Concat(x.parts...), "\n") + "\n"
}

// facts appends what is known of the place of an address.
func (x *explanationText) facts(a *explain.Answer) {
	if a.Row != nil {
		x.add("mapping", mappingText(a), 2)
		if a.Page != nil {
			x.add("page", pageText(a.Page), 1)
		} else if a.PageWhy != "" {
			x.add("page", "not known: "+table.Escape(a.PageWhy), 1)
		}
		if s := symbolText(a.Symbol, true); s != "" {
			x.add("symbol", s, 1)
		} else if a.SymbolWhy != "" {
			x.add("symbol", "not known: "+table.Escape(a.SymbolWhy), 1)
		}
	}
	// The answer has said of what is not mapped what is beside it.
	if a.Below != nil && a.What != explain.Gap {
		x.add("below", neighbourText(a.Below, "ends", "below"), 1)
	}
	if a.Above != nil && a.What != explain.Gap && a.What != explain.StackRoom && a.What != explain.Overflow {
		x.add("above", neighbourText(a.Above, "begins", "above"), 1)
	}
	if a.Missing != "" && a.What != explain.Unknown {
		x.add("unknown", table.Escape(a.Missing), 1)
	}
}

// hexText is an address, or a number of bytes that nobody counts.
func hexText(n uint64) string { return "0x" + strconv.FormatUint(n, 16) }

// bytesText is a distance: counted if it is short, so that the offset of a member can be seen.
func bytesText(n uint64) string {
	const counted = 10_000
	if n < counted {
		return units.Count(n, "byte")
	}
	return hexText(n) + " bytes"
}

// rowName is what a mapping is called in a sentence.
func rowName(r *explain.Row, p procmaps.Purpose) string {
	switch {
	case r.Kind() == procmaps.KindAnon && p.Role == procmaps.RoleThreadStack && p.TID != 0:
		return "the stack of thread " + strconv.Itoa(p.TID)
	case r.Kind() == procmaps.KindAnon && p.Role == procmaps.RoleThreadStack && len(p.Stacks) == 0:
		return "a thread's stack"
	case r.Kind() == procmaps.KindAnon && p.Role == procmaps.RoleArena:
		return "a malloc arena"
	case r.Kind() == procmaps.KindAnon && p.Role == procmaps.RoleGuard:
		return "a guard"
	}
	const most = 40 // columns, that the rest of the sentence is not cut off
	return tui.Cut(Name(r.Name, false), most, false)
}

// withMode is a name and the mode behind it, as far as that is known.
func withMode(name string, r *explain.Row) string {
	if m := r.ModeText(); m != "" {
		return name + " (" + m + ")"
	}
	return name
}

// sentence says what is at an address. It is escaped.
func sentence(a *explain.Answer) string {
	text := hexText(a.Address)
	if a.Tag != 0 {
		text += " (with the tag " + hexText(uint64(a.Tag)) + ")"
	}
	return text + " " + predicate(a)
}

func predicate(a *explain.Answer) string {
	switch a.What {
	case explain.Mapped:
		return mappedText(a)
	case explain.NoAccess:
		return "is mapped without access (PROT_NONE), " + bytesText(a.Into) + " into " + rowName(a.Row, a.Purpose)
	case explain.Guard:
		return guardText(a)
	case explain.PastEnd:
		return fmt.Sprintf("is mapped, but beyond the end of %s: the file has %s, and the mapping goes on to %s (SIGBUS)",
			rowName(a.Row, a.Purpose), units.Count(a.FileBytes, "byte"), hexText(a.Row.Offset+a.Row.Len()))
	case explain.Null:
		return nullText(a)
	case explain.Gap:
		return gapText(a)
	case explain.StackRoom, explain.Overflow:
		return belowStackText(a)
	case explain.NonCanonical:
		text := "is no address that a process can have"
		if a.Text != "" {
			text += `: its bytes are the text "` + a.Text + `"`
		} else {
			text += ": it is not canonical (its upper bits differ)"
		}
		return text
	case explain.Kernel:
		if a.Below0 != 0 {
			return fmt.Sprintf("is -%d: an error number or another negative one, or a null pointer less %s; no process has it", a.Below0, hexText(a.Below0))
		}
		return "is an address of the kernel, which no process may touch"
	case explain.Vsyscall:
		return "is in the vsyscall page, where the kernel emulates old system calls"
	case explain.Unknown:
		return unknownText(a)
	}
	return ""
}

func mappedText(a *explain.Answer) string {
	name := rowName(a.Row, a.Purpose)
	if a.TID != 0 && a.Purpose.TID == 0 {
		name = "stacks of threads, that of " + strconv.Itoa(a.TID)
	}
	text := "is " + bytesText(a.Into) + " into " + withMode(name, a.Row)
	if a.File {
		text += ", file offset " + hexText(a.FileOffset)
	}
	if s := symbolText(a.Symbol, false); s != "" {
		text += ": " + s
	}
	return text
}

func guardText(a *explain.Answer) string {
	switch {
	case a.TID != 0:
		return fmt.Sprintf("is in the guard page of thread %d's stack", a.TID)
	case a.Page != nil && a.Page.Guard:
		return "is in a guard page (MADV_GUARD_INSTALL) of " + rowName(a.Row, a.Purpose)
	case a.Row.Kind() == procmaps.KindFile:
		return "is mapped without access, between segments of " + Name(a.Row.Name, false)
	case a.Purpose.Inferred:
		return "is in the guard page of a thread's stack"
	}
	return "is in a guard page: " + Name(a.Row.Name, false)
}

// unknownText says what the error code alone tells of an address.
func unknownText(a *explain.Answer) string {
	text := "may be mapped or not"
	switch a.Reason {
	case explain.ProtectedRead, explain.ProtectedWrite, explain.ProtectedFetch, explain.KeyDenied:
		text = "is mapped, as what"
	case explain.NothingMapped:
		text = "is not mapped"
	case explain.NoPage:
		text = "is not mapped, or without access"
	default:
	}
	if text == "is mapped, as what" {
		return text + " is not known: " + table.Escape(a.Missing)
	}
	return text + ": " + table.Escape(a.Missing)
}

func nullText(a *explain.Answer) string {
	text := "is a null pointer"
	if a.Address != 0 {
		text = fmt.Sprintf("%s above address 0 (a null pointer plus %s)", bytesText(a.Address), hexText(a.Address))
	}
	switch {
	case a.Listed && a.Address != 0:
		return "is not mapped: " + text
	case a.Listed:
		return text + ", and is not mapped"
	case a.Address != 0:
		text = "is " + text
	}
	return text + ", where hardly anything is ever mapped"
}

func gapText(a *explain.Answer) string {
	below, above := "", ""
	if n := a.Below; n != nil {
		below = rowName(n.Row, n.Purpose) + ", which ends " + distanceText(n, "below it")
	}
	if n := a.Above; n != nil {
		above = rowName(n.Row, n.Purpose) + ", which begins " + distanceText(n, "above it")
	}
	switch {
	case below == "":
		return "is not mapped: below the first mapping, " + above
	case above == "":
		return "is not mapped: above the last mapping, " + below
	}
	gap := units.Bytes(float64(a.Above.Start - a.Below.End))
	return "is not mapped: in the gap of " + gap + " between " + below + ", and " + above
}

// distanceText is how far a neighbour is.
func distanceText(n *explain.Neighbour, where string) string {
	if n.Distance == 0 {
		return "there"
	}
	const far = 1 << 20 // what lies that far away is not counted from there
	if n.Distance >= far {
		return units.Bytes(float64(n.Distance)) + " " + where
	}
	return bytesText(n.Distance) + " " + where
}

func belowStackText(a *explain.Answer) string {
	has := units.Bytes(float64(a.Above.Len()))
	limit := "its limit is not known"
	switch a.StackLimit {
	case 0:
	case procmaps.Unlimited:
		limit = "it has no limit"
	default:
		limit = "its limit is " + units.Bytes(float64(a.StackLimit))
	}
	if a.What == explain.Overflow {
		return fmt.Sprintf("is not mapped: %s below the stack, which may not grow there: a stack overflow (it has %s; %s)",
			bytesText(a.Above.Distance), has, limit)
	}
	return fmt.Sprintf("is not mapped yet: %s below the stack, which may grow there (it has %s; %s)", bytesText(a.Above.Distance), has, limit)
}

// symbolText is the function, with the line if it is asked for; "" if there is no symbol.
func symbolText(s *explain.Symbol, line bool) string {
	switch {
	case s == nil, !line && s.Function == "":
		return ""
	case s.Function == "":
		return "no name covers it; " + hexText(s.Address) + " in the file's own numbering"
	}
	text := table.Escape(s.Function) + "+" + hexText(s.Offset)
	if s.File != "" && s.Line != 0 {
		text += " (" + table.Escape(s.File[strings.LastIndexByte(s.File, '/')+1:]) + ":" + strconv.Itoa(s.Line) + ")"
	}
	if line && s.Numbered {
		text += ", " + hexText(s.Address) + " in the file's own numbering"
	}
	return text
}

// atText says where the instruction is, and whose it was.
func atText(e *Explanation) string {
	a := e.At
	text := hexText(a.Address) + ", "
	s := symbolText(a.Symbol, false)
	switch {
	case a.What == explain.Unknown:
		text = strings.TrimSuffix(text, ", ")
	case a.Row == nil:
		text += "which " + predicate(a)
	case s != "":
		text += s + " in " + rowName(a.Row, a.Purpose)
	default:
		text += bytesText(a.Into) + " into " + rowName(a.Row, a.Purpose)
		if a.File {
			text += ", file offset " + hexText(a.FileOffset)
		}
	}
	f := e.Fault
	if e.Answer != nil {
		f = e.Answer.Fault
	}
	if f != nil && f.TID != 0 {
		text += ", thread " + strconv.Itoa(f.TID)
		if comm := cmp.Or(f.Comm, e.Comm); comm != "" {
			text += " (" + table.Escape(comm) + ")"
		}
	}
	return text
}

// unaddressed says what a signal is that is about no address.
func unaddressed(f *explain.Fault, pid int) string {
	text := cmp.Or(f.SignalName(), "the process")
	switch {
	case f.General:
		return text + ": the processor did not say which address it was, as with one that is not canonical"
	case f.Sent && f.Sender > 0 && f.Sender == pid:
		return text + " was sent by the process itself: it is about no address"
	case f.Sent && f.Sender > 0:
		return fmt.Sprintf("%s was sent by process %d: it is about no address", text, f.Sender)
	case f.Sent:
		return text + " was sent by a process: it is about no address"
	case f.Signal == 0:
		return "no signal has ended the process: it is about no address"
	}
	return text + " is about no address"
}

// whyText says why an access was refused.
func whyText(a *explain.Answer) string {
	f := a.Fault
	access := "an access to"
	switch f.Access {
	case explain.Reads:
		access = "a read of"
	case explain.Writes:
		access = "a write to"
		if f.Inferred {
			access = "a write, as reads are permitted, to"
		}
	case explain.Executes:
		access = "the execution of"
	}
	mode := ""
	if a.Row != nil && a.Row.ModeText() != "" {
		mode = " (" + a.Row.ModeText() + ")"
	}
	text := reasonText(a.Reason, access, mode)
	signal := f.SignalName()
	if code := f.CodeName(); code != "" {
		signal += ", " + code
	}
	if f.HasError {
		signal += ", error " + strconv.FormatUint(f.Error, 16)
	}
	text += " (" + signal + ")"
	if a.NearStack {
		where := bytesText(uint64(a.FromSP)) + " above"
		switch {
		case a.FromSP == 0:
			where = "at"
		case a.FromSP < 0:
			where = bytesText(-uint64(a.FromSP)) + " below"
		}
		text += "; it is " + where + " the stack pointer, as when a stack overflows"
	}
	return text
}

func reasonText(r explain.Reason, access, mode string) string {
	switch r {
	case explain.NothingMapped:
		return access + " what is not mapped"
	case explain.NotWritable:
		return access + " memory that is not writable" + mode
	case explain.NotExecutable:
		return access + " memory that is not executable" + mode
	case explain.NotReadable:
		return access + " memory without access" + mode
	case explain.NoPage:
		return access + " what is not mapped, or mapped without access"
	case explain.ProtectedWrite:
		return access + " a page that is there, and is not writable"
	case explain.ProtectedFetch:
		return access + " a page that is there, and is not executable"
	case explain.ProtectedRead:
		return access + " a page that is there, and may not be read"
	case explain.KeyDenied:
		return access + " what a protection key forbids (pkeys(7))"
	case explain.BeyondFile:
		return access + " what is beyond the end of the file"
	case explain.NoBacking:
		return access + " what is beyond the end of the file, or cannot be read"
	case explain.Misaligned:
		return access + " an address that is not aligned"
	case explain.BrokenMemory:
		return access + " memory that is broken, says the hardware"
	case explain.StackFull:
		return access + " where the stack may not grow"
	case explain.NoProcessAddress:
		return access + " what no process has"
	case explain.PermittedNow:
		return access + " what is permitted by now: it has changed since"
	}
	return "not known: the signal does not tell more"
}

// mappingText is the mapping that an address is in.
func mappingText(a *explain.Answer) string {
	r := a.Row
	parts := []string{strings.Join(strings.Fields(r.String()+" "+r.ModeText()), " ")}
	parts[0] += " " + a.Purpose.Role.String() + ", " + units.Bytes(float64(r.Len()))
	if r.Offset != 0 {
		parts = append(parts, "offset "+hexText(r.Offset))
	}
	if r.Inode != 0 {
		parts = append(parts, "inode "+strconv.FormatUint(r.Inode, 10))
	}
	return strings.Join(append(parts, Name(r.Name, true)), ", ")
}

// pageText is the state of a page.
func pageText(p *procmaps.Page) string {
	var parts []string
	switch {
	case p.Guard:
		return "a guard (MADV_GUARD_INSTALL): nothing is behind it"
	case p.Zero:
		parts = append(parts, "the page of zeros: read, and never written to")
	case p.Present:
		parts = append(parts, "resident")
	case p.Swapped:
		parts = append(parts, "swapped out")
	default:
		return "not resident: not touched yet, or taken back since"
	}
	switch {
	case p.Zero:
	case p.File:
		parts = append(parts, "of the file or shared memory")
	default:
		parts = append(parts, "anonymous")
	}
	switch {
	case !p.Present || p.Zero:
	case p.Exclusive:
		parts = append(parts, "mapped here alone")
	default:
		parts = append(parts, "mapped elsewhere too")
	}
	if p.Huge {
		parts = append(parts, "a part of a huge page")
	}
	if p.SoftDirty {
		parts = append(parts, "soft-dirty")
	}
	return strings.Join(parts, ", ")
}

// neighbourText is a neighbour, and how far it is.
func neighbourText(n *explain.Neighbour, verb, where string) string {
	return verb + " " + distanceText(n, where) + ": " + withMode(rowName(n.Row, n.Purpose), n.Row) + ", " + units.Bytes(float64(n.Len()))
}
