package stack

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
)

const (
	bias  = 0x5500_0000_0000
	sp    = 0x7ffc_0000_1000
	plain = 0x7000_0000_0000 // code with frame pointers
	tramp = 0x7100_0000_0000
	sigrt = 0x7200_0000_0000
)

// codeAtTest knows the table's text at bias, and a page for each other rule.
func codeAtTest(tab *Table) func(uint64) (Code, bool) {
	return func(pc uint64) (Code, bool) {
		switch pc &^ 0xfff {
		case plain:
			return Code{Rule: RuleFramePointer}, true
		case tramp:
			return Code{Rule: RuleTrampoline}, true
		case sigrt:
			return Code{Rule: RuleSigreturn}, true
		}
		if pc-bias-textAddr < textSize {
			return Code{Rule: RuleCFI, Table: tab, Bias: bias}, true
		}
		return Code{}, false
	}
}

// words makes a stack.
func words(w ...uint64) []byte {
	var b []byte
	for _, v := range w {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	return b
}

// manyFunctions has a function at every 256 bytes of the text, each with one
// way to find its caller.
func manyFunctions(a Arch) *Table {
	var f info
	cie := f.cie(1, cieAMD64)
	signal := "zRS\x00\x01\x78\x10\x01\x1b"
	if a == ARM64 {
		cie = f.cie(1, cieARM64)
		signal = "zRS\x00\x04\x78\x1e\x01\x1b"
	}
	at := uint64(textAddr)
	add := func(cie uint64, program ...byte) {
		f.fde(cie, f.pcrel(at, 0x100), []byte{0}, program)
		at += 0x100
	}
	ra, fp, stack := byte(amd64PC), byte(amd64FP), byte(amd64SP)
	if a == ARM64 {
		ra, fp, stack = arm64LR, arm64FP, arm64SP
	}
	add(cie)                                                                                                                 // leaf
	add(cie, opDefCFAOffset, 32, opOffset+ra, 1, opOffset+fp, 2)                                                             // framed
	add(cie, opUndefined, ra)                                                                                                // root
	add(cie, opDefCFA, fp, 16, opOffset+ra, 1, opOffset+fp, 2)                                                               // byFP
	add(f.cie(1, []byte(signal)), opDefCFAExpression, 3, exBreg0+stack, 16, exDeref, opExpression, ra, 2, exBreg0+stack, 24) // signalFrame
	add(cie, opDefCFAOffset, 16, opUndefined, fp, opOffset+ra, 1)                                                            // losesFP
	add(cie, opRegister, ra, 1, opDefCFAOffset, 0)                                                                           // inRegister
	add(cie, opDefCFAOffset, 16, opOffset+ra, 1, opOffset+fp, 3)                                                             // popped
	add(cie, opDefCFAExpression, 4, exLit0, exSkip, 0xfd, 0xff)                                                              // loops
	add(cie, opOffset+ra, 10)                                                                                                // beyond
	file := withFrames(a, f.b)
	t, err := ReadTable(bytes.NewReader(file), int64(len(file)), nil)
	if err != nil {
		panic(err)
	}
	return t
}

// An address in each function of manyFunctions.
const (
	leaf = bias + textAddr + 0x80 + 0x100*iota
	framed
	root
	byFP
	signalFrame
	losesFP
	inRegister
	popped
	loops
	beyond
	withoutFDE
)

func TestWalksGoAndEndAsTheStackSays(t *testing.T) {
	t.Parallel()
	call := func(pc uint64) Frame { return Frame{PC: pc, Call: true} }
	const elsewhere = 0xc000_0000_0000
	// rt_sigframe of amd64: what the kernel pushes, up to rip.
	sigframe := make([]uint64, 22)
	sigframe[5+10], sigframe[5+15], sigframe[5+16] = sp+22*8+24, sp+22*8, leaf // rbp, rsp, rip
	arm := make([]uint64, 128/8+176/8+1+33)
	arm[len(arm)-2], arm[len(arm)-1] = sp+8*uint64(len(arm)), leaf
	arm[len(arm)-3] = root // x30
	tests := []struct {
		name   string
		arch   Arch
		pc, fp uint64
		lr, r1 uint64
		stack  []byte
		cut    bool
		want   []Frame
		end    End
	}{
		{name: "to the root", pc: leaf, stack: words(framed, 0, 1, 2, root), want: []Frame{{PC: leaf}, call(framed), call(root)}},
		{name: "a pc of zero is above the root", pc: leaf, stack: words(framed, 0, 1, 2, 0), want: []Frame{{PC: leaf}, call(framed)}},
		{name: "a call of a null pointer", stack: words(framed, 0, 1, 2, root), want: []Frame{call(framed), call(root)}},
		{name: "a call of a null pointer by no code", stack: words(0x1234), end: EndNoCode},
		{name: "a null pointer and no copy", cut: true, end: EndTruncated},
		{
			name: "a call of a null pointer that a signal interrupted", pc: leaf, stack: words(signalFrame, 0, 0, sp+40, 0, framed, 0, 1, 2, root),
			want: []Frame{{PC: leaf}, call(signalFrame), call(framed), call(root)},
		},
		{
			name: "a call of a null pointer on arm64", arch: ARM64, lr: framed, stack: words(0, 0, 0, root),
			want: []Frame{call(framed), call(root)},
		},
		{name: "the copy was cut", pc: leaf, cut: true, stack: words(framed, 0, 1), want: []Frame{{PC: leaf}, call(framed)}, end: EndTruncated},
		{name: "the stack ends too early", pc: leaf, stack: words(framed, 0, 1), want: []Frame{{PC: leaf}, call(framed)}, end: EndBroken},
		{name: "there is no copy", pc: leaf, cut: true, want: []Frame{{PC: leaf}}, end: EndTruncated},
		{name: "code without an FDE", pc: withoutFDE, stack: words(root), want: []Frame{{PC: withoutFDE}}, end: EndNoFDE},
		{name: "a return to no code", pc: leaf, stack: words(0x1234), want: []Frame{{PC: leaf}}, end: EndNoCode},
		{name: "a pc in no code", pc: 0x1234, stack: words(root), want: []Frame{{PC: 0x1234}}, end: EndNoCode},
		{
			name: "the frame pointer passes code without an FDE", pc: leaf, fp: sp + 16, stack: words(withoutFDE, 0, sp+64, framed, 0, 1, 2, root),
			want: []Frame{{PC: leaf}, call(withoutFDE), call(framed), call(root)},
		},
		{
			name: "but not to no code", pc: leaf, fp: sp + 16, stack: words(withoutFDE, 0, sp+64, 0x1234),
			want: []Frame{{PC: leaf}, call(withoutFDE)}, end: EndNoFDE,
		},
		{name: "a CFA by the frame pointer", pc: byFP, fp: sp + 16, stack: words(0, 0, sp, root), want: []Frame{{PC: byFP}, call(root)}},
		{name: "a CFA that does not rise", pc: leaf, fp: sp - 16, stack: words(byFP, 0, 0), want: []Frame{{PC: leaf}, call(byFP)}, end: EndBroken},
		{name: "a CFA in the innermost frame that has not moved", pc: inRegister, stack: words(0), want: []Frame{{PC: inRegister}}, end: EndBroken},
		{
			name: "a system call that keeps its return address in a register", pc: inRegister, r1: framed, stack: words(0, 0, 0, root),
			want: []Frame{{PC: inRegister}, call(framed), call(root)},
		},
		{name: "a CFA by a register that was lost", pc: losesFP, fp: sp + 16, stack: words(0, byFP, 0, root), want: []Frame{{PC: losesFP}, call(byFP)}, end: EndBroken},
		{name: "a register that an epilogue has popped", pc: popped, fp: sp + 24, stack: words(0, byFP, 0, sp+64, root), want: []Frame{{PC: popped}, call(byFP), call(root)}},
		{name: "a return address beyond the stack pointer is not the pc", pc: beyond, stack: words(root, root), want: []Frame{{PC: beyond}}, end: EndBroken},
		{
			name: "a link register that an epilogue has popped", arch: ARM64, pc: beyond, lr: framed, stack: words(0, 0, 0, root),
			want: []Frame{{PC: beyond}, call(framed), call(root)},
		},
		{name: "an expression without end", pc: loops, stack: words(root), want: []Frame{{PC: loops}}, end: EndBroken},
		{
			name: "a signal frame: the interrupted pc is no call", pc: leaf, stack: words(signalFrame, 0, 0, sp+40, framed, 0, 1, 2, root),
			want: []Frame{{PC: leaf}, call(signalFrame), {PC: framed}, call(root)}, end: EndRoot,
		},
		{
			name: "a signal on another stack", pc: leaf, stack: words(signalFrame, 0, 0, elsewhere, framed),
			want: []Frame{{PC: leaf}, call(signalFrame), {PC: framed}}, end: EndTruncated,
		},
		{
			name: "a signal frame that turns back", pc: leaf, stack: words(signalFrame, 0, 0, sp, framed),
			want: []Frame{{PC: leaf}, call(signalFrame)}, end: EndBroken,
		},
		{
			name: "a return from a signal without an FDE", pc: leaf, stack: words(append([]uint64{sigrt}, shift(sigframe, 8)...)...), fp: 1,
			want: []Frame{{PC: leaf}, call(sigrt), {PC: leaf}}, end: EndBroken,
		},
		{
			name: "frame pointers", pc: plain + 1, fp: sp + 8, stack: words(0, sp+32, plain+2, 0, 0, root),
			want: []Frame{{PC: plain + 1}, call(plain + 2), call(root)},
		},
		{name: "the last frame pointer is zero", pc: plain + 1, stack: words(0), want: []Frame{{PC: plain + 1}}},
		{name: "frame pointers to a goroutine's stack", pc: plain + 1, fp: elsewhere, stack: words(0), want: []Frame{{PC: plain + 1}}, end: EndTruncated},
		{name: "a frame pointer that is none", pc: plain + 1, fp: sp + 4, stack: words(0, 0), want: []Frame{{PC: plain + 1}}, end: EndBroken},
		{name: "a frame pointer into the kernel", pc: plain + 1, fp: 1<<63 + 8, stack: words(0, 0), want: []Frame{{PC: plain + 1}}, end: EndBroken},
		{
			name: "frame pointers that turn back", pc: plain + 1, fp: sp + 8, stack: words(0, sp+8, plain+2, 0),
			want: []Frame{{PC: plain + 1}, call(plain + 2)}, end: EndBroken,
		},
		{
			name: "a trampoline of python 3.12", pc: leaf, fp: sp + 64, stack: words(tramp+9, 0x1111, byFP, 0, 0, 0, 0, 0, 0, root),
			want: []Frame{{PC: leaf}, call(tramp + 9), call(byFP), call(root)},
		},
		{
			name: "a trampoline of python 3.14, with a frame", pc: leaf, fp: sp + 8, stack: words(tramp+9, sp+64, byFP, 0, 0, 0, 0, 0, 0, root),
			want: []Frame{{PC: leaf}, call(tramp + 9), call(byFP), call(root)},
		},
		{
			name: "an arm64 leaf returns through the link register", arch: ARM64, pc: leaf, lr: framed, stack: words(0, 0, 0, root),
			want: []Frame{{PC: leaf}, call(framed), call(root)},
		},
		{
			name: "signatures of arm64 are removed", arch: ARM64, pc: leaf, lr: framed | 0x00ab<<48, stack: words(0, 0, 0, root|0x7f4f<<48),
			want: []Frame{{PC: leaf}, call(framed), call(root)},
		},
		{
			name: "only one leaf of arm64 needs no frame", arch: ARM64, pc: leaf, lr: leaf, stack: words(0, 0, 0, root),
			want: []Frame{{PC: leaf}, call(leaf)}, end: EndBroken,
		},
		{
			name: "a caller that keeps its return address in a register", arch: ARM64, pc: leaf, lr: inRegister, r1: framed, stack: words(0, 0, 0, root),
			want: []Frame{{PC: leaf}, call(inRegister), call(framed), call(root)},
		},
		{
			name: "and is its own caller", arch: ARM64, pc: leaf, lr: inRegister, r1: inRegister, stack: words(0, 0, 0, root),
			want: []Frame{{PC: leaf}, call(inRegister), call(inRegister)}, end: EndBroken,
		},
		{
			name: "frame records of arm64", arch: ARM64, pc: plain + 4, fp: sp, stack: words(sp+16, plain+8, 0, root|0x11<<56),
			want: []Frame{{PC: plain + 4}, call(plain + 8), call(root)},
		},
		{
			name: "a return from a signal of arm64", arch: ARM64, pc: leaf, lr: sigrt, stack: words(arm...),
			want: []Frame{{PC: leaf}, call(sigrt), {PC: leaf}, call(root)},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			arch := max(tt.arch, AMD64)
			s := Sample{Regs: Registers{Arch: arch, PC: tt.pc, SP: sp}, Stack: tt.stack, Cut: tt.cut}
			s.Regs.R[arch.fp()] = tt.fp
			s.Regs.R[1] = tt.r1
			if arch == ARM64 {
				s.Regs.R[arm64LR] = tt.lr
			}
			if got := s.Regs.FP(); got != tt.fp {
				t.Errorf("FP is %#x, want %#x", got, tt.fp)
			}
			if got := s.Regs.LR(); got != tt.lr {
				t.Errorf("LR is %#x, want %#x", got, tt.lr)
			}
			var u Unwinder
			got, end := u.Unwind(&s, codeAtTest(manyFunctions(arch)), nil)
			if want := max(tt.end, EndRoot); end != want {
				t.Errorf("the walk ends with %v, want %v", end, want)
			}
			if diff := gocmp.Diff(tt.want, got); diff != "" {
				t.Errorf("frames differ (-want +got):\n%s", diff)
			}
		})
	}
}

// shift adds n to the stack pointer in a rt_sigframe.
func shift(frame []uint64, n uint64) []uint64 {
	frame = slices.Clone(frame)
	frame[5+15] += n
	return frame
}

func TestSignaturesBeginWhereTheAddressSpaceEnds(t *testing.T) {
	t.Parallel()
	tab := manyFunctions(ARM64)
	const signature = 0x7fa5_5aa5_5aa5_5000 // bit 55 says which half of all addresses it is
	for _, tt := range []struct {
		name string
		top  uint64 // of the highest mapping
		pc   uint64 // the caller's
	}{
		{"36 bits", 0xf_ffe8_2000, 0xf_aaaa_0008},
		{"39 bits", 0x7f_ffe8_2000, 0x55_aaaa_0008},
		{"42 bits", 0x3ff_ffe8_0000, 0x2aa_aaaa_0008},
		{"47 bits", 0x7fff_ffe8_0000, 0x5555_aaaa_0008},
		{"48 bits", 0xffff_ffe8_2000, 0xaaaa_aaaa_0008},
		{"48 bits to the end", 1 << 48, 0xaaaa_aaaa_0008},
		{"48 bits where the end is not known", 0, 0xaaaa_aaaa_0008},
		{"52 bits", 0xf_ffff_ffe8_2000, 0xa_aaaa_aaaa_0008},
	} {
		s := Sample{Regs: Registers{Arch: ARM64, PC: leaf, SP: sp}, Stack: words(0)}
		s.Regs.R[arm64LR] = signature&^addressBits(cmp.Or(tt.top, 1<<48)) | tt.pc
		u := Unwinder{Top: tt.top}
		frames, _ := u.Unwind(&s, func(pc uint64) (Code, bool) {
			if pc == tt.pc-1 {
				return Code{}, true
			}
			return codeAtTest(tab)(pc)
		}, nil)
		if diff := gocmp.Diff([]Frame{{PC: leaf}, {PC: tt.pc, Call: true}}, frames); diff != "" {
			t.Errorf("%s: frames differ (-want +got):\n%s", tt.name, diff)
		}
	}
}

// All of its registers are 0.
func TestAThreadThatHasJustReturnedIsInWhatMadeTheCall(t *testing.T) {
	t.Parallel()
	// The next function begins where it returns to.
	sample := Sample{Regs: Registers{Arch: AMD64, PC: plain, SP: sp}, Returned: true}
	var looked []uint64
	frames, end := new(Unwinder).Unwind(&sample, func(pc uint64) (Code, bool) {
		looked = append(looked, pc)
		return Code{}, true
	}, nil)
	if d := gocmp.Diff([]Frame{{PC: plain, Call: true}}, frames); d != "" || end != EndNoFDE {
		t.Errorf("%v (-want +got):\n%s", end, d)
	}
	if looked[0] != plain-1 {
		t.Errorf("looked for code at %#x", looked)
	}
}

func TestAThreadThatHasNotBeenInUserModeHasNoFrames(t *testing.T) {
	t.Parallel()
	for _, arch := range []Arch{AMD64, ARM64} {
		for _, cut := range []bool{false, true} {
			var u Unwinder
			s := Sample{Regs: Registers{Arch: arch}, Cut: cut}
			if frames, end := u.Unwind(&s, codeAtTest(manyFunctions(arch)), nil); len(frames) > 0 || end != EndRoot {
				t.Errorf("%v, cut %v: %v, %v", arch, cut, frames, end)
			}
		}
	}
}

func TestTheDepthOfAWalkIsLimited(t *testing.T) {
	t.Parallel()
	tab := manyFunctions(AMD64)
	s := Sample{Regs: Registers{Arch: AMD64, PC: leaf, SP: sp}, Stack: words(slices.Repeat([]uint64{leaf}, 5000)...)}
	for _, tt := range []struct{ limit, want int }{{0, 1024}, {7, 7}} {
		u := Unwinder{MaxDepth: tt.limit}
		if frames, end := u.Unwind(&s, codeAtTest(tab), nil); len(frames) != tt.want || end != EndDepth {
			t.Errorf("a limit of %d gives %d frames, %v; want %d, depth", tt.limit, len(frames), end, tt.want)
		}
	}
}

// A rule that was remembered for one table must not serve another.
func TestRulesAreRememberedForTheirTable(t *testing.T) {
	t.Parallel()
	one := manyFunctions(AMD64)
	var f info
	f.fde(f.cie(1, cieAMD64), f.pcrel(textAddr, 256), []byte{0}, []byte{opDefCFAOffset, 24})
	other := mustTable(t, withFrames(AMD64, f.b))
	s := Sample{Regs: Registers{Arch: AMD64, PC: leaf, SP: sp}, Stack: words(framed, 0, leaf, 0, 0)}
	var u Unwinder
	for i, tt := range []struct {
		tab  *Table
		want uint64
	}{{one, framed}, {other, leaf}, {one, framed}, {nil, 0}} {
		frames, _ := u.Unwind(&s, codeAtTest(tt.tab), nil)
		if got := append(frames, Frame{}, Frame{})[1].PC; got != tt.want {
			t.Errorf("walk %d goes to %#x, want %#x", i, got, tt.want)
		}
		if i == 2 {
			u.Forget()
		}
	}
}

func TestTheReturnFromASignalIsKnownByItsInstructions(t *testing.T) {
	t.Parallel()
	amd64 := []byte("\x48\xc7\xc0\x0f\x00\x00\x00\x0f\x05\xcc")
	arm64 := []byte("\x68\x11\x80\xd2\x01\x00\x00\xd4")
	for _, tt := range []struct {
		a    Arch
		code []byte
		want bool
	}{
		{AMD64, amd64, true}, {ARM64, arm64, true}, {AMD64, arm64, false}, {ARM64, amd64, false}, {AMD64, amd64[:8], false}, {0, amd64, false},
	} {
		if got := Sigreturn(tt.a, tt.code); got != tt.want {
			t.Errorf("%v, % x: %v, want %v", tt.a, tt.code, got, tt.want)
		}
	}
}

func TestWalksMakeNoGarbage(t *testing.T) {
	tab := manyFunctions(AMD64)
	s := Sample{Regs: Registers{Arch: AMD64, PC: leaf, SP: sp}, Stack: words(signalFrame, 0, 0, sp+40, framed, 0, 1, 2, root)}
	var u Unwinder
	codeAt := codeAtTest(tab)
	frames, _ := u.Unwind(&s, codeAt, nil)
	if n := testing.AllocsPerRun(100, func() { frames, _ = u.Unwind(&s, codeAt, frames[:0]) }); n > 0 {
		t.Errorf("a walk makes %v allocations, want 0", n)
	}
}

func FuzzUnwind(f *testing.F) {
	stack := words(signalFrame, 0, 0, sp+40, framed, 0, 1, 2, root)
	f.Add(oneFunction(cieAMD64, opDefCFAExpression, 2, exBreg0+7, 8), stack, uint64(leaf), uint64(sp), uint64(sp+16), uint8(1))
	f.Add(oneFunction(cieARM64, opAdvance+1, opDefCFAOffset, 32, opOffset+30, 3), stack, uint64(plain), uint64(sp), uint64(sp+16), uint8(2))
	f.Add([]byte{}, stack, uint64(tramp), uint64(sp), uint64(sp+16), uint8(3))
	f.Add([]byte{}, stack, uint64(sigrt), ^uint64(0)-16, uint64(sp+16), uint8(0))
	var u Unwinder
	f.Fuzz(func(t *testing.T, frames, stack []byte, pc, sp, fp uint64, flags uint8) {
		arch := AMD64
		if flags&2 != 0 {
			arch = ARM64
		}
		file := withFrames(arch, frames)
		tab, _ := ReadTable(bytes.NewReader(file), int64(len(file)), nil)
		if tab == nil {
			tab = manyFunctions(arch)
		}
		s := Sample{Regs: Registers{Arch: arch, PC: pc, SP: sp}, Stack: stack, Cut: flags&1 != 0}
		for i := range s.Regs.R {
			s.Regs.R[i] = sp + 8*uint64(i)
		}
		s.Regs.R[arch.fp()] = fp
		if arch == ARM64 {
			s.Regs.R[arm64LR] = leaf
		}
		got, end := u.Unwind(&s, codeAtTest(tab), nil)
		if len(got) > defaultDepth || end < EndRoot || end > EndDepth {
			t.Errorf("%d frames, %v", len(got), end)
		}
		// All but a few frames take a part of the stack.
		if n := len(got); n > 3*len(stack)+8 {
			t.Errorf("%d frames on %d bytes", n, len(stack))
		}
	})
}
