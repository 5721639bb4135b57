package stack

import (
	"cmp"
	"encoding/binary"
	"slices"
)

// Rule says how to get from a frame to its caller.
type Rule uint8

// The rules. The zero value is RuleNone.
const (
	// RuleNone: there is no way; the walk ends with EndNoFDE.
	RuleNone Rule = iota
	// RuleCFI: the rows of a Table. Code without an FDE in the middle of a
	// stack, such as the builtins inside node, is passed by its frame pointer
	// if that leads to code; at the innermost frame the walk ends.
	RuleCFI
	// RuleFramePointer: the chain of frame pointers. It is right for the text
	// of Go programs, except where a function has no frame of its own, as in
	// its first instructions: then its caller is missing.
	RuleFramePointer
	// RuleTrampoline: the code that python makes for a function when it helps
	// perf. At its call, the return address is in the second word of the stack.
	RuleTrampoline
	// RuleSigreturn: the code a signal handler returns to, where no FDE
	// describes it (musl, Go, and the vdso of arm64). The interrupted
	// registers are at the stack pointer. See [Sigreturn].
	RuleSigreturn
)

// Code says how to unwind where a pc is.
type Code struct {
	Rule  Rule
	Table *Table // for RuleCFI; without one, no code has an FDE
	Bias  uint64 // the address in memory minus that in the file
}

// Sample is the registers of a thread and a copy of its stack, from the stack
// pointer up.
type Sample struct {
	Regs Registers
	// Returned says that the thread has just returned to Regs.PC: the call is before it, and
	// what comes next may be of another function that was inlined there.
	Returned bool

	Stack []byte
	Cut   bool // the copy ended because the budget did, not the stack
	// Chain, if any, are the program counters along the frame pointers, innermost
	// first. [Unwinder.Unwind] has no use for them; see [Sample.Follow].
	Chain []uint64
}

// Follow appends to frames what the chain of frame pointers has beyond the last
// of them, and reports whether it has that frame at all. Where code that keeps
// frame pointers has changed the stack, as Go's runtime does for its own work, the
// chain goes on beyond the copy.
func (s *Sample) Follow(frames []Frame) ([]Frame, bool) {
	if len(frames) == 0 {
		return frames, false
	}
	i := slices.Index(s.Chain, frames[len(frames)-1].PC)
	if i < 0 {
		return frames, false
	}
	for _, pc := range s.Chain[i+1:] {
		frames = append(frames, Frame{PC: pc, Call: true})
	}
	return frames, i+1 < len(s.Chain)
}

// Frame is one function on a stack, or several that were inlined into it.
type Frame struct {
	PC uint64
	// Call: PC is a return address. The call is before it, so look up PC-1.
	Call bool
}

// End says why a walk ended.
type End uint8

// The ends. Only EndRoot is a whole stack.
const (
	EndRoot      End = iota + 1 // the outermost frame, by its rule or a return address of 0
	EndTruncated                // the stack goes on where the copy does not reach: too deep, or another stack
	EndNoFDE                    // the last frame is in code without a rule
	EndNoCode                   // the next pc, which is no frame, is not in code
	EndBroken                   // the rules led to nonsense
	EndDepth                    // the limit on frames was reached
)

// String returns the end in a word or two.
func (e End) String() string {
	switch e {
	case EndRoot:
		return "root"
	case EndTruncated:
		return "truncated"
	case EndNoFDE:
		return "no-fde"
	case EndNoCode:
		return "no-code"
	case EndBroken:
		return "broken"
	case EndDepth:
		return "depth"
	}
	return "unknown"
}

const (
	defaultDepth = 1024
	maxSteps     = 1 << 16 // operations of expressions in one walk
	cacheSize    = 1 << 12 // a power of two
)

// Unwinder walks stacks. Its zero value is ready for use. It remembers which
// rule belongs to which pc: at most 4,096 of them, which keep the tables that
// they are from in memory until others take their places. It is not safe for
// concurrent use.
type Unwinder struct {
	// MaxDepth is how many frames of a stack are walked; 0 stands for 1,024.
	MaxDepth int
	// Top is the end of the highest mapping of the address space, 0 if that is not
	// known. In return addresses of arm64, signatures are in the bits above it.
	Top uint64

	cache []cached
	w     walk
}

type cached struct {
	table *Table
	addr  uint64 // in the file
	rule  uint16
}

// Forget drops what the Unwinder remembers.
func (u *Unwinder) Forget() { u.cache = nil }

// rule returns the rule for an address of t's file, nil where it has none.
func (u *Unwinder) rule(t *Table, addr uint64) *rule {
	if u.cache == nil {
		u.cache = make([]cached, cacheSize)
	}
	c := &u.cache[addr*0x9e3779b97f4a7c15>>52]
	if c.table != t || c.addr != addr {
		*c = cached{t, addr, t.find(addr)}
	}
	if c.rule == noRule {
		return nil
	}
	return &t.rules[c.rule]
}

// Unwind walks a stack, appends its frames, innermost first, to frames, and
// says why it ended. codeAt is asked for the code at a pc, and for a return
// address at the one before; it must not use the Unwinder.
//
// The sample may come from a hostile process: a walk is bounded by MaxDepth,
// and by stack pointers that must rise from frame to caller.
func (u *Unwinder) Unwind(s *Sample, codeAt func(pc uint64) (Code, bool), frames []Frame) ([]Frame, End) {
	w := &u.w
	w.start(s, u.Top)
	depth := u.MaxDepth
	if depth <= 0 {
		depth = defaultDepth
	}
	for ; ; depth-- {
		// A thread without a stack has not been in user mode.
		if w.pc == 0 && (w.call || w.sp == 0) {
			return frames, EndRoot
		}
		if depth == 0 {
			return frames, EndDepth
		}
		code, ok := w.code(codeAt)
		switch {
		case ok:
		case w.pc == 0:
			if !w.toCaller() {
				return frames, w.end
			}
			continue
		case w.call:
			return frames, EndNoCode
		default:
			return append(frames, Frame{PC: w.pc}), EndNoCode
		}
		frames = append(frames, Frame{PC: w.pc, Call: w.call})
		switch code.Rule {
		case RuleCFI:
			ok = u.byTable(code, codeAt)
		case RuleFramePointer:
			ok = w.byFramePointer()
		case RuleTrampoline:
			ok = w.byTrampoline()
		case RuleSigreturn:
			ok = w.bySigreturn()
		default:
			return frames, EndNoFDE
		}
		if !ok {
			return frames, w.end
		}
	}
}

// byTable takes a step by call frame information.
func (u *Unwinder) byTable(code Code, codeAt func(pc uint64) (Code, bool)) bool {
	w := &u.w
	var r *rule
	if code.Table != nil {
		r = u.rule(code.Table, w.at()-code.Bias)
	}
	if r != nil {
		return w.byRule(code.Table, r, code.Bias)
	}
	w.end = EndNoFDE
	if !w.call {
		// Its first instructions may not have set up a frame.
		return false
	}
	if c, _ := w.sigreturn(codeAt, code, true); c.Rule == RuleSigreturn {
		return w.bySigreturn()
	}
	before := *w
	if w.byFramePointer() && w.pc != 0 {
		if _, ok := w.code(codeAt); ok {
			return true
		}
	}
	*w = before
	return false
}

// walk is the state of one walk: the registers of the frame it is at.
type walk struct {
	arch  Arch
	pc    uint64
	sp    uint64
	call  bool // pc is a return address
	r     [numRegs]uint64
	known uint64 // the registers whose values are known

	base  uint64 // the address of stack[0]
	stack []byte
	cut   bool
	// moved: the stack pointer has left the copy for another stack, of which
	// nothing can be read. What the copy has is not for the frames there.
	moved bool
	flats int // the steps, up to here, that left the stack pointer as it was

	bias  uint64 // of the code, for expressions
	steps int
	end   End // why the last step failed

	mask uint64 // the bits of a return address that are address
}

func (w *walk) start(s *Sample, top uint64) {
	*w = walk{
		arch: s.Regs.Arch, pc: s.Regs.PC, sp: s.Regs.SP, r: s.Regs.R,
		known: 1<<numRegs - 1,
		base:  s.Regs.SP, stack: s.Stack, cut: s.Cut, call: s.Returned,
	}
	if w.mask = ^uint64(0); w.arch == ARM64 {
		w.mask = addressBits(cmp.Or(top, defaultTop))
	}
	w.mirror()
}

// mirror sets the registers that repeat others.
func (w *walk) mirror() {
	w.r[w.arch.sp()] = w.sp
	w.known |= 1 << w.arch.sp()
	if w.arch == AMD64 {
		w.r[amd64PC] = w.pc
		w.known |= 1 << amd64PC
	}
}

// at returns the address whose rule holds in this frame: a call may be the
// last instruction of its function, or of the code under a rule.
func (w *walk) at() uint64 {
	if w.call {
		return w.pc - 1
	}
	return w.pc
}

// code asks for the code at the pc.
func (w *walk) code(codeAt func(pc uint64) (Code, bool)) (Code, bool) {
	c, ok := codeAt(w.at())
	if w.call && (!ok || c.Rule == RuleNone) {
		c, ok = w.sigreturn(codeAt, c, ok)
	}
	return c, ok
}

// sigreturn looks at the pc itself where the code before it is of no use:
// nobody has called the code that signal handlers return to, so the return
// address is its first instruction.
func (w *walk) sigreturn(codeAt func(pc uint64) (Code, bool), c Code, ok bool) (Code, bool) {
	if at, found := codeAt(w.pc); found && at.Rule == RuleSigreturn {
		return at, true
	}
	return c, ok
}

// load reads size bytes of the stack. When the copy does not have them, the
// walk ends, w.end says how, and load returns false.
func (w *walk) load(addr uint64, size int) (uint64, bool) {
	off := addr - w.base
	if !w.moved && off < uint64(len(w.stack)) && uint64(len(w.stack))-off >= uint64(size) {
		if size == 8 {
			return binary.LittleEndian.Uint64(w.stack[off:]), true
		}
		var v uint64
		for i, b := range w.stack[off:][:size] {
			v |= uint64(b) << (8 * i)
		}
		return v, true
	}
	w.end = EndBroken
	if w.moved || w.cut && addr >= w.base {
		w.end = EndTruncated
	}
	return 0, false
}

// leave goes to the caller. Where signal is set, the caller was interrupted
// and may be on another stack. flat permits a stack pointer that has not moved.
func (w *walk) leave(pc, sp uint64, signal, flat bool) bool {
	switch {
	case signal && sp-w.base > uint64(len(w.stack)):
		w.moved = true
	case sp < w.sp || sp == w.sp && !flat:
		w.end = EndBroken
		return false
	}
	if w.flats++; sp != w.sp {
		w.flats = 0
	}
	w.pc, w.sp, w.call = pc&w.mask, sp, !signal
	w.mirror()
	return true
}

// byRule takes a step by a rule of a table.
func (w *walk) byRule(t *Table, r *rule, bias uint64) bool {
	if r.root {
		w.end = EndRoot
		return false
	}
	w.bias = bias
	var cfa uint64
	if r.cfa == cfaReg {
		if w.known>>r.reg&1 == 0 {
			w.end = EndBroken
			return false
		}
		cfa = w.r[r.reg] + uint64(int64(r.n))
	} else {
		var ok bool
		if cfa, ok = w.eval(t.exprs[r.n]); !ok {
			return false
		}
	}
	// All rules speak of the registers before the step.
	var values [numRegs]uint64
	var found uint64 // by index of the save
	saves := t.saves[r.first:][:r.saves]
	for i, s := range saves {
		var v uint64
		ok := true
		switch s.kind {
		case lost:
			continue
		case atOffset:
			at := cfa + uint64(int64(s.n))
			if v, ok = w.load(at, 8); !ok && !w.call && at < w.sp && w.arch.popped(s.reg) {
				// An epilogue has popped it already, and compilers see no
				// need to say so: its old place keeps the value.
				v, ok = w.r[s.reg], w.known>>s.reg&1 != 0
			}
		case isOffset:
			v = cfa + uint64(int64(s.n))
		case inReg:
			if v, ok = w.r[s.n], w.known>>s.n&1 != 0; !ok {
				w.end = EndBroken
			}
		case atExpr:
			if v, ok = w.eval(t.exprs[s.n], cfa); ok {
				v, ok = w.load(v, 8)
			}
		case isExpr:
			v, ok = w.eval(t.exprs[s.n], cfa)
		}
		if ok {
			values[i] = v
			found |= 1 << i
		} else if s.reg == r.ra {
			return false
		}
	}
	sp, pc := cfa, uint64(0)
	var hasPC, moved bool
	if w.arch == ARM64 {
		pc, hasPC = w.r[r.ra], w.known>>r.ra&1 != 0
	}
	for i, s := range saves {
		if s.reg == r.ra {
			pc, hasPC = values[i], found>>i&1 != 0
			moved = s.kind == inReg
		}
		if found>>i&1 == 0 {
			w.known &^= 1 << s.reg
			continue
		}
		if int(s.reg) == w.arch.sp() {
			sp = values[i]
		}
		w.known |= 1 << s.reg
		w.r[s.reg] = values[i]
	}
	if !hasPC {
		w.end = EndBroken
		return false
	}
	// On arm64 a leaf needs no stack, nor does a function that keeps its return
	// address in a register while it calls one (LLVM's outliner makes such). On amd64 vfork
	// does: the child must not write over it.
	flat := w.arch == ARM64 && (!w.call || moved && w.flats < 2) || moved && !w.call && pc != 0
	return w.leave(pc, sp, r.signal, flat)
}

// toCaller takes a step out of a function that has run no instruction, as when a
// null pointer is called: the return address is where the call has put it.
func (w *walk) toCaller() bool {
	if w.arch == ARM64 {
		w.end = EndBroken
		return w.known>>arm64LR&1 != 0 && w.leave(w.r[arm64LR], w.sp, false, true)
	}
	pc, ok := w.load(w.sp, 8)
	return ok && w.leave(pc, w.sp+8, false, false)
}

// byFramePointer takes a step by the frame pointer.
func (w *walk) byFramePointer() bool {
	reg := w.arch.fp()
	fp := w.r[reg]
	switch {
	case w.known>>reg&1 == 0 || fp%8 != 0 || fp>>56 != 0:
		w.end = EndBroken
		return false
	case fp == 0:
		w.end = EndRoot
		return false
	case fp-w.base > uint64(len(w.stack)):
		// Go's system calls run on the thread's stack; their callers are on
		// that of the goroutine.
		w.end = EndTruncated
		return false
	case fp < w.sp:
		w.end = EndBroken
		return false
	}
	up, ok := w.load(fp, 8)
	if !ok {
		return false
	}
	pc, ok := w.load(fp+8, 8)
	if !ok {
		return false
	}
	w.r[reg] = up
	// What the function did with the other registers is not known.
	w.known = 1 << reg
	return w.leave(pc, fp+16, false, false)
}

// byTrampoline takes a step out of a trampoline of python
// (Python/asm_trampoline.S). It keeps the frame pointer in the first word of
// the stack; on amd64 before python 3.14 that word is padding.
func (w *walk) byTrampoline() bool {
	up, ok := w.load(w.sp, 8)
	if !ok {
		return false
	}
	pc, ok := w.load(w.sp+8, 8)
	if !ok {
		return false
	}
	if reg := w.arch.fp(); w.r[reg] == w.sp && w.known>>reg&1 != 0 {
		w.r[reg] = up
	}
	return w.leave(pc, w.sp+16, false, false)
}

// bySigreturn goes to what a signal interrupted. The kernel has put its
// registers on the stack: struct rt_sigframe of
// arch/{x86/include/asm/sigframe.h,arm64/kernel/signal.c}.
func (w *walk) bySigreturn() bool {
	var regs [numRegs]uint64
	var pc uint64
	load := func(off uint64, v *uint64) (ok bool) {
		*v, ok = w.load(w.sp+off, 8)
		return ok
	}
	if w.arch == ARM64 {
		// siginfo (128 bytes), ucontext up to its sigcontext (176), and the
		// fault address; then x0 to x30, sp, pc.
		const at = 128 + 176 + 8
		for i := range arm64SP + 1 {
			if !load(at+8*uint64(i), &regs[i]) {
				return false
			}
		}
		if !load(at+8*32, &pc) {
			return false
		}
	} else {
		// ucontext up to its sigcontext (40 bytes), whose order this is.
		for i, reg := range [...]int{8, 9, 10, 11, 12, 13, 14, 15, 5, 4, 6, 3, 1, 0, 2, 7} {
			if !load(40+8*uint64(i), &regs[reg]) {
				return false
			}
		}
		if !load(40+8*16, &pc) {
			return false
		}
	}
	sp := regs[w.arch.sp()]
	w.r, w.known = regs, 1<<numRegs-1
	return w.leave(pc, sp, true, false)
}

// Sigreturn reports whether code begins with the instructions that return from
// a signal handler: what [RuleSigreturn] is for. libgcc knows them by the same
// bytes.
func Sigreturn(a Arch, code []byte) bool {
	var want string
	switch a {
	case AMD64:
		want = "\x48\xc7\xc0\x0f\x00\x00\x00\x0f\x05" // mov $15, %rax; syscall
	case ARM64:
		want = "\x68\x11\x80\xd2\x01\x00\x00\xd4" // mov x8, #139; svc #0
	default:
		return false
	}
	return len(code) >= len(want) && string(code[:len(want)]) == want
}
