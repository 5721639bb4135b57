package stack

import (
	"bytes"
	"testing"
)

// evalWith computes an expression with the registers and the stack of a walk.
func evalWith(expr []byte, start ...uint64) (uint64, bool, *walk) {
	w := &walk{}
	s := Sample{Regs: Registers{Arch: AMD64, PC: 0x401006, SP: 0x7000}, Stack: make([]byte, 64)}
	s.Regs.R[6] = 0x7010
	copy(s.Stack[8:], "\x11\x22\x33\x44\x55\x66\x77\x88")
	w.start(&s, 0)
	w.bias = 0x400000
	v, ok := w.eval(expr, start...)
	return v, ok, w
}

func TestExpressionsComputeWhatDWARFSays(t *testing.T) {
	t.Parallel()
	const minus2 = ^uint64(1)
	tests := []struct {
		name string
		expr []byte
		want uint64
	}{
		{"the frame of a PLT entry at its push", []byte{exBreg0 + 7, 8, exBreg0 + 16, 0, exLit0 + 15, exAnd, exLit0 + 11, exGe, exLit0 + 3, exShl, exPlus}, 0x7008},
		{"the frame of a PLT entry behind its push", []byte{exBreg0 + 7, 8, exBreg0 + 16, 6, exLit0 + 15, exAnd, exLit0 + 11, exGe, exLit0 + 3, exShl, exPlus}, 0x7010},
		{"the frame of a realigned function", []byte{exBreg0 + 6, 0x78, exDeref}, 0x8877665544332211},
		{"an address of the file", append([]byte{exAddr}, u64(0x1234)...), 0x401234},
		{"parts of a word", []byte{exBregx, 7, 8, exDerefSize, 2}, 0x2211},
		{"what it begins with", []byte{exPlusUconst, 0x85, 1}, 1000 + 133},
		{"constants", []byte{exConst1u, 200, exConst1s, 0xff, exPlus, exConst2u, 0, 1, exPlus, exConst2s, 0xff, 0xff, exPlus}, 199 + 255},
		{"long constants", []byte{exConst4u, 0, 0, 0, 0x80, exConst4s, 0, 0, 0, 0x80, exPlus, exConstu, 0x80, 1, exConsts, 0x7f, exMul, exPlus}, ^uint64(127)},
		{"constants of eight bytes", append(append(append([]byte{exConst8u}, u64(7)...), exConst8s), append(u64(minus2), exMul)...), ^uint64(13)},
		{"the order of the stack", []byte{exLit0 + 1, exLit0 + 2, exLit0 + 3, exRot, exDrop, exSwap, exMinus}, minus2},
		{"copies", []byte{exLit0 + 9, exLit0 + 4, exOver, exMinus, exPick, 1, exDup, exMul, exPlus}, 81 - 5},
		{"signed division and unsigned rest", []byte{exConst1s, 0xf9, exLit0 + 2, exDiv, exAbs, exLit0 + 17, exLit0 + 5, exMod, exMul}, 6},
		{"bits", []byte{exLit0 + 12, exLit0 + 10, exXor, exLit0 + 1, exOr, exNot, exNeg}, 8},
		{"shifts", []byte{exConst1s, 0xf0, exLit0 + 2, exShra, exLit0 + 31, exShr, exLit0 + 31, exShr}, 3},
		{"a shift out of the word", []byte{exLit0 + 1, exConst1u, 64, exShl}, 0},
		{"comparisons", []byte{
			exConst1s, 0xff, exLit0, exLt, exLit0, exConst1s, 0xff, exGt, exAnd,
			exLit0 + 1, exLit0 + 1, exLe, exAnd, exLit0 + 1, exLit0 + 2, exNe, exAnd, exLit0 + 3, exLit0 + 3, exEq, exAnd,
		}, 1},
		{"branches", []byte{exLit0 + 1, exBra, 1, 0, exDrop, exLit0 + 5, exSkip, 1, 0, exDrop, exNop}, 5},
	}
	for _, tt := range tests {
		got, ok, w := evalWith(tt.expr, 1000)
		if got != tt.want || !ok {
			t.Errorf("%s: %#x %v %v, want %#x", tt.name, got, ok, w.end, tt.want)
		}
	}
}

func TestExpressionsWithoutAValueEndTheWalk(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		expr []byte
	}{
		{"nothing", nil},
		{"an operand that is missing", []byte{exLit0, exPlus}},
		{"nothing to drop", []byte{exDrop}},
		{"nothing to swap", []byte{exLit0, exSwap}},
		{"nothing to rotate", []byte{exLit0, exLit0, exRot}},
		{"nothing to pick", []byte{exLit0, exPick, 1}},
		{"a division by zero", []byte{exLit0, exLit0, exDiv}},
		{"a rest of zero", []byte{exLit0, exLit0, exMod}},
		{"a loop", []byte{exSkip, 0xfd, 0xff}},
		{"a loop that fills the stack", []byte{exLit0, exSkip, 0xfc, 0xff}},
		{"a jump out of it", []byte{exLit0, exSkip, 0xf0, 0xff}},
		{"a constant that is cut", []byte{exConst4u, 1, 2}},
		{"a read elsewhere", []byte{exLit0, exDeref}},
		{"a read of nine bytes", []byte{exBreg0 + 7, 0, exDerefSize, 9}},
		{"a register there is not", []byte{exBregx, 40, 0}},
		{"an operation there is not", []byte{0xff}},
	} {
		if got, ok, w := evalWith(tt.expr); ok || w.end != EndBroken {
			t.Errorf("%s: %#x %v %v, want none, broken", tt.name, got, ok, w.end)
		}
	}
}

func FuzzExpression(f *testing.F) {
	f.Add([]byte{exBreg0 + 7, 8, exBreg0 + 16, 0, exLit0 + 15, exAnd, exLit0 + 11, exGe, exLit0 + 3, exShl, exPlus})
	f.Add([]byte{exLit0 + 1, exBra, 1, 0, exDrop, exLit0 + 5, exSkip, 0xf0, 0xff, exNop})
	f.Add(append([]byte{exAddr}, bytes.Repeat([]byte{exDup}, 100)...))
	f.Fuzz(func(t *testing.T, expr []byte) {
		v, ok, w := evalWith(expr, 1)
		if ok == (w.end != 0) || !ok && v != 0 {
			t.Errorf("value %#x %v, end %v", v, ok, w.end)
		}
		if w.steps > maxSteps+1 {
			t.Errorf("%d steps", w.steps)
		}
	})
}
