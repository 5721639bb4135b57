package stack

// The operations of DWARF expressions that call frame information may have.
const (
	exAddr       = 0x03
	exDeref      = 0x06
	exConst1u    = 0x08
	exConst1s    = 0x09
	exConst2u    = 0x0a
	exConst2s    = 0x0b
	exConst4u    = 0x0c
	exConst4s    = 0x0d
	exConst8u    = 0x0e
	exConst8s    = 0x0f
	exConstu     = 0x10
	exConsts     = 0x11
	exDup        = 0x12
	exDrop       = 0x13
	exOver       = 0x14
	exPick       = 0x15
	exSwap       = 0x16
	exRot        = 0x17
	exAbs        = 0x19
	exAnd        = 0x1a
	exDiv        = 0x1b
	exMinus      = 0x1c
	exMod        = 0x1d
	exMul        = 0x1e
	exNeg        = 0x1f
	exNot        = 0x20
	exOr         = 0x21
	exPlus       = 0x22
	exPlusUconst = 0x23
	exShl        = 0x24
	exShr        = 0x25
	exShra       = 0x26
	exXor        = 0x27
	exBra        = 0x28
	exEq         = 0x29
	exGe         = 0x2a
	exGt         = 0x2b
	exLe         = 0x2c
	exLt         = 0x2d
	exNe         = 0x2e
	exSkip       = 0x2f
	exLit0       = 0x30
	exLit31      = 0x4f
	exBreg0      = 0x70
	exBreg31     = 0x8f
	exBregx      = 0x92
	exDerefSize  = 0x94
	exNop        = 0x96
)

// maxOperands bounds the stack of an expression; those of PLTs need five.
const maxOperands = 64

// eval computes an expression. start is what the stack begins with: the CFA
// for the rules of registers. A false says that there is no value, and that
// the walk ends; w.end is set.
func (w *walk) eval(expr []byte, start ...uint64) (uint64, bool) {
	r := reader{b: expr}
	var st [maxOperands]uint64
	n := copy(st[:], start)
	bad := func() (uint64, bool) {
		w.end = EndBroken
		return 0, false
	}
	for r.left() > 0 {
		// Expressions can loop. Those of one walk have a common limit.
		if w.steps++; w.steps > maxSteps {
			return bad()
		}
		op := r.u8()
		var v uint64
		need, pops := 0, 0
		switch {
		case op >= exAbs && op <= exNot || op == exPlusUconst || op == exDeref || op == exDerefSize:
			need, pops = 1, 1
			if op == exAnd || op == exDiv || op == exMinus || op == exMod || op == exMul {
				need, pops = 2, 2
			}
		case op >= exOr && op <= exXor || op >= exEq && op <= exNe:
			need, pops = 2, 2
		case op == exDup:
			need = 1
		case op == exOver:
			need = 2
		}
		if n < need {
			return bad()
		}
		var a, b uint64 // of two operands, b was pushed last
		switch pops {
		case 1:
			a = st[n-1]
		case 2:
			a, b = st[n-2], st[n-1]
		}
		switch op {
		case exNop:
			continue
		case exDrop, exBra:
			if n < 1 {
				return bad()
			}
			n--
			if op == exBra {
				to := int(int16(r.u16()))
				if st[n] != 0 && !r.jump(to) {
					return bad()
				}
			}
			continue
		case exSkip:
			if to := int(int16(r.u16())); !r.jump(to) {
				return bad()
			}
			continue
		case exSwap:
			if n < 2 {
				return bad()
			}
			st[n-1], st[n-2] = st[n-2], st[n-1]
			continue
		case exRot:
			if n < 3 {
				return bad()
			}
			st[n-1], st[n-2], st[n-3] = st[n-2], st[n-3], st[n-1]
			continue
		case exAddr:
			v = r.u64() + w.bias
		case exConst1u:
			v = uint64(r.u8())
		case exConst1s:
			v = uint64(int8(r.u8()))
		case exConst2u:
			v = uint64(r.u16())
		case exConst2s:
			v = uint64(int16(r.u16()))
		case exConst4u:
			v = uint64(r.u32())
		case exConst4s:
			v = uint64(int32(r.u32()))
		case exConst8u, exConst8s:
			v = r.u64()
		case exConstu:
			v = r.uleb()
		case exConsts:
			v = uint64(r.sleb())
		case exDup:
			v = st[n-1]
		case exOver:
			v = st[n-2]
		case exPick:
			i := int(r.u8())
			if i >= n {
				return bad()
			}
			v = st[n-1-i]
		case exDeref, exDerefSize:
			size := uint8(8)
			if op == exDerefSize {
				size = r.u8()
			}
			if size == 0 || size > 8 {
				return bad()
			}
			var ok bool
			if v, ok = w.load(a, int(size)); !ok {
				return 0, false
			}
		case exAbs:
			v = a
			if int64(a) < 0 {
				v = -a
			}
		case exNeg:
			v = -a
		case exNot:
			v = ^a
		case exPlusUconst:
			v = a + r.uleb()
		case exAnd:
			v = a & b
		case exOr:
			v = a | b
		case exXor:
			v = a ^ b
		case exPlus:
			v = a + b
		case exMinus:
			v = a - b
		case exMul:
			v = a * b
		case exDiv, exMod:
			if b == 0 {
				return bad()
			}
			if op == exDiv {
				v = uint64(int64(a) / int64(b))
			} else {
				v = a % b
			}
		case exShl:
			v = a << b
		case exShr:
			v = a >> b
		case exShra:
			v = uint64(int64(a) >> b)
		case exEq:
			v = truth(a == b)
		case exNe:
			v = truth(a != b)
		case exGe:
			v = truth(int64(a) >= int64(b))
		case exGt:
			v = truth(int64(a) > int64(b))
		case exLe:
			v = truth(int64(a) <= int64(b))
		case exLt:
			v = truth(int64(a) < int64(b))
		default:
			reg := uint64(op) - exBreg0
			switch {
			case op >= exLit0 && op <= exLit31:
				v = uint64(op) - exLit0
			case op >= exBreg0 && op <= exBreg31 || op == exBregx:
				if op == exBregx {
					reg = r.uleb()
				}
				if reg >= numRegs || w.known>>reg&1 == 0 {
					return bad()
				}
				v = w.r[reg] + uint64(r.sleb())
			default:
				return bad()
			}
		}
		n -= pops
		if n == len(st) || r.bad {
			return bad()
		}
		st[n] = v
		n++
	}
	if n == 0 || r.bad {
		return bad()
	}
	return st[n-1], true
}

// jump moves by n bytes.
func (r *reader) jump(n int) bool {
	to := r.off + n
	if to < 0 || to > len(r.b) || r.bad {
		return false
	}
	r.off = to
	return true
}

func truth(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}
