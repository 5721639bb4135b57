#include "textflag.h"

// func pushed()
// Its first instruction is one that the kernel does itself when it is probed.
TEXT ·pushed(SB), NOSPLIT|NOFRAME, $0-0
	PUSHQ BP
	POPQ  BP
	RET

// func tested()
// Its first instruction is one that the kernel has stepped over.
TEXT ·tested(SB), NOSPLIT|NOFRAME, $0-0
	TESTQ DI, DI
	RET

// func pushedAt() uintptr
TEXT ·pushedAt(SB), NOSPLIT, $0-8
	LEAQ ·pushed(SB), AX
	MOVQ AX, ret+0(FP)
	RET

// func testedAt() uintptr
TEXT ·testedAt(SB), NOSPLIT, $0-8
	LEAQ ·tested(SB), AX
	MOVQ AX, ret+0(FP)
	RET
