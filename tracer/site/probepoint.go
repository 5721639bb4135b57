package site

import (
	"bytes"
	"slices"

	"golang.org/x/arch/x86/x86asm"

	"github.com/maptrace/maptrace/tracer/stack"
)

// probeBytes is how much code of a function is looked at to find where to probe it.
const probeBytes = 128

// landingPad is ENDBR64, which the decoder does not know.
var landingPad = []byte{0xf3, 0x0f, 0x1e, 0xfa}

// probePoint is how many bytes into a function it is to be probed. The kernel lets the
// instruction under a probe run by itself, which takes a second trap, ten times as long as
// the first on virtual machines; but for some that it does itself
// (arch/x86/kernel/uprobes.c: push_setup_xol_ops, branch_setup_xol_ops). So one of those is
// chosen if there is nothing before it but what changes no argument and no stack pointer,
// and always comes to it. Without one it is 0, and false says that the kernel does not do
// it.
//
// Of what frees only the first argument matters, and not whether it returns: one further
// away will do. The return of what allocates is probed as well, and should something jump
// back to before the probe, with another stack pointer, that would be an end of the program.
func probePoint(code []byte, of stack.Arch, frees bool) (skip int, ok bool) {
	if of != stack.AMD64 {
		return 0, false
	}
	const mode = 64
	tries, arguments := 6, []x86asm.Reg{x86asm.RDI, x86asm.RSI, x86asm.RDX}
	if frees {
		tries, arguments = 16, arguments[:1]
	}
	at := 0
	if bytes.HasPrefix(code, landingPad) {
		at = len(landingPad)
	}
	for range tries {
		in, err := x86asm.Decode(code[at:], mode)
		if err != nil {
			break
		}
		if emulated(&in) {
			return at, true
		}
		if in.Op == x86asm.RET || changes(&in, arguments) {
			break
		}
		at += in.Len
	}
	return 0, false
}

// mostCode is the size of the largest function that is searched for where it returns, and
// mostReturns how many instructions there may be that do.
const (
	mostCode    = 1 << 10
	mostReturns = 8
)

// returns is where a function returns: all instructions that do, bytes from its beginning.
// Nil says that it is not known, or that there are none.
func returns(code []byte, of stack.Arch) (at []int) {
	if of != stack.AMD64 {
		return nil
	}
	const mode = 64
	for i := 0; i < len(code); {
		if bytes.HasPrefix(code[i:], landingPad) {
			i += len(landingPad)
			continue
		}
		in, err := x86asm.Decode(code[i:], mode)
		if err != nil || len(at) > mostReturns {
			return nil
		}
		if in.Op == x86asm.RET {
			at = append(at, i)
		}
		i += in.Len
	}
	return at
}

// emulated tells whether the kernel does an instruction itself.
func emulated(in *x86asm.Inst) bool {
	switch in.Op {
	case x86asm.PUSH:
		r, ok := in.Args[0].(x86asm.Reg)
		return ok && r >= x86asm.RAX && r <= x86asm.R15
	case x86asm.NOP:
		return in.Len == 1
	case x86asm.JMP, x86asm.CALL:
		_, ok := in.Args[0].(x86asm.Rel)
		return ok
	}
	_, rel := in.Args[0].(x86asm.Rel)
	return rel && in.Op != x86asm.LOOP && in.Op != x86asm.LOOPE && in.Op != x86asm.LOOPNE && in.Op != x86asm.JRCXZ && in.Op != x86asm.JECXZ
}

// changes tells whether an instruction may change one of the arguments or the stack pointer,
// or is not known well enough.
func changes(in *x86asm.Inst, arguments []x86asm.Reg) bool {
	switch in.Op {
	case x86asm.TEST, x86asm.CMP:
		return false
	case x86asm.MOV, x86asm.LEA, x86asm.XOR, x86asm.AND, x86asm.OR, x86asm.ADD, x86asm.SUB, x86asm.MOVZX, x86asm.SHR, x86asm.SHL:
		r, ok := in.Args[0].(x86asm.Reg)
		r = whole64(r)
		return !ok || r == x86asm.RSP || slices.Contains(arguments, r)
	case x86asm.NOP:
		return false
	}
	return true
}

// whole64 is the register that one is a part of; RSP, which is never chosen, if that is not
// known.
func whole64(r x86asm.Reg) x86asm.Reg {
	switch {
	case r >= x86asm.RAX && r <= x86asm.R15:
		return r
	case r >= x86asm.EAX && r <= x86asm.R15L:
		return r - x86asm.EAX + x86asm.RAX
	}
	return x86asm.RSP
}
