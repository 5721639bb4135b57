#include "textflag.h"

// func pushed()
// Its first instruction is one that the kernel does itself when it is probed, since 6.13.
TEXT ·pushed(SB), NOSPLIT|NOFRAME, $0-0
	NOOP
	RET

// func tested()
// Its first instruction is one that the kernel has stepped over.
TEXT ·tested(SB), NOSPLIT|NOFRAME, $0-0
	ADD $0, R0, R0
	RET

// func pushedAt() uintptr
TEXT ·pushedAt(SB), NOSPLIT, $0-8
	MOVD $·pushed(SB), R0
	MOVD R0, ret+0(FP)
	RET

// func testedAt() uintptr
TEXT ·testedAt(SB), NOSPLIT, $0-8
	MOVD $·tested(SB), R0
	MOVD R0, ret+0(FP)
	RET
