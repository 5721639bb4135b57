package stack

import "math/bits"

// Arch is an instruction set, with its numbering of registers.
type Arch uint8

// The architectures.
const (
	AMD64 Arch = iota + 1
	ARM64
)

// String returns the name Go has for the architecture.
func (a Arch) String() string {
	switch a {
	case AMD64:
		return "amd64"
	case ARM64:
		return "arm64"
	}
	return "unknown"
}

// Numbers of registers, as DWARF has them.
const (
	amd64FP = 6  // rbp
	amd64SP = 7  // rsp
	amd64PC = 16 // the return address column

	arm64FP = 29
	arm64LR = 30
	arm64SP = 31

	numRegs = 33
)

// registers returns how many registers are kept: the general ones. Rules for
// the others, such as v8 of arm64, are read and left out.
func (a Arch) registers() int {
	if a == ARM64 {
		return arm64SP + 1
	}
	return amd64PC + 1
}

func (a Arch) fp() int {
	if a == ARM64 {
		return arm64FP
	}
	return amd64FP
}

func (a Arch) sp() int {
	if a == ARM64 {
		return arm64SP
	}
	return amd64SP
}

// popped reports whether an epilogue can load a register from the stack and go on.
// That is all but the pc: amd64's is loaded by returning.
func (a Arch) popped(reg uint8) bool { return a == ARM64 || reg != amd64PC }

// Registers are the general registers of a thread in user mode. PC and SP
// count; the elements of R that repeat them (7 and 16 on amd64, 31 on arm64)
// need not be set.
type Registers struct {
	Arch   Arch
	PC, SP uint64

	// R is in DWARF's numbering. amd64: rax, rdx, rcx, rbx, rsi, rdi, rbp,
	// rsp, r8 to r15, rip. arm64: x0 to x30, sp.
	R [numRegs]uint64
}

// FP returns the frame pointer: rbp or x29.
func (r *Registers) FP() uint64 { return r.R[r.Arch.fp()] }

// LR returns the link register x30, 0 on amd64, which has none.
func (r *Registers) LR() uint64 {
	if r.Arch == ARM64 {
		return r.R[arm64LR]
	}
	return 0
}

// defaultTop is where an address space of arm64 ends unless a program asks for
// more, or the kernel is configured for less: 36, 39, 42 or 47 bits.
const defaultTop = 1 << 48

// addressBits returns a mask of the bits that an address below top can have. Those
// above are a pointer authentication code and a tag in a code address of arm64.
func addressBits(top uint64) uint64 { return 1<<bits.Len64(top-1) - 1 }
