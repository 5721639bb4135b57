package stack

// The opcodes of call frame programs (DWARF 5, table 7.29, and the vendors').
const (
	opAdvance = 0x40 // the low six bits are the operand of these three
	opOffset  = 0x80
	opRestore = 0xc0

	opNop              = 0x00
	opSetLoc           = 0x01
	opAdvance1         = 0x02
	opAdvance2         = 0x03
	opAdvance4         = 0x04
	opOffsetExtended   = 0x05
	opRestoreExtended  = 0x06
	opUndefined        = 0x07
	opSameValue        = 0x08
	opRegister         = 0x09
	opRememberState    = 0x0a
	opRestoreState     = 0x0b
	opDefCFA           = 0x0c
	opDefCFARegister   = 0x0d
	opDefCFAOffset     = 0x0e
	opDefCFAExpression = 0x0f
	opExpression       = 0x10
	opOffsetExtendedSF = 0x11
	opDefCFASF         = 0x12
	opDefCFAOffsetSF   = 0x13
	opValOffset        = 0x14
	opValOffsetSF      = 0x15
	opValExpression    = 0x16
	opAdvance8         = 0x1d // DW_CFA_MIPS_advance_loc8

	// Whether the return address is signed changes nothing here: a signature
	// is removed from every address of arm64, and addresses have none to lose.
	opNegateRAStatePC = 0x2c // DW_CFA_AARCH64_negate_ra_state_with_pc
	opNegateRAState   = 0x2d // DW_CFA_AARCH64_negate_ra_state; amd64: GNU_window_save

	opArgsSize               = 0x2e // DW_CFA_GNU_args_size
	opNegativeOffsetExtended = 0x2f // DW_CFA_GNU_negative_offset_extended
)

// maxRemembered bounds the stack of DW_CFA_remember_state. Compilers nest two.
const maxRemembered = 32

// exec runs one program: that of c, or that of an FDE of it for the code at
// [pc, end), whose rows go to the function that is being built. It reports false, and where,
// at an instruction that it cannot know or that makes no sense.
func (b *builder) exec(prog reader, c *cie, fde bool, pc, end uint64) (stopped uint64, ok bool) {
	// Each byte of a section belongs to one entry, so the fuel suffices for
	// every file but those whose FDEs name many overlapping CIEs.
	if b.fuel -= prog.left(); b.fuel < 0 {
		return pc, false
	}
	b.saved = b.saved[:0]
	st := &b.state
	dirty := fde
	for prog.left() > 0 && !prog.bad && b.step() {
		op := prog.u8()
		low := uint64(op & 0x3f)
		var to uint64
		switch op & 0xc0 {
		case opAdvance:
			op, to = opAdvance, pc+low*c.codeAlign
		case opOffset:
			if !b.offset(low, atOffset, int64(prog.uleb())*c.dataAlign) {
				return pc, false
			}
			dirty = true
			continue
		case opRestore:
			if !fde {
				return pc, false
			}
			st.restore(low, &c.initial)
			dirty = true
			continue
		}
		switch op {
		case opNop, opNegateRAState, opNegateRAStatePC:
			continue
		case opArgsSize:
			prog.uleb()
			continue
		case opAdvance, opAdvance1, opAdvance2, opAdvance4, opAdvance8, opSetLoc:
			switch op {
			case opAdvance1:
				to = pc + uint64(prog.u8())*c.codeAlign
			case opAdvance2:
				to = pc + uint64(prog.u16())*c.codeAlign
			case opAdvance4:
				to = pc + uint64(prog.u32())*c.codeAlign
			case opAdvance8:
				to = pc + prog.u64()*c.codeAlign
			case opSetLoc:
				var ok bool
				if to, ok = prog.pointer(c.encoding, b.at); !ok {
					return pc, false
				}
			}
			if prog.bad || to < pc || !fde {
				return pc, false
			}
			if to > pc {
				if dirty {
					b.row(pc, b.rules.intern(st, c))
					dirty = false
				}
				if to >= end {
					return pc, true
				}
				pc = to
			}
			continue
		case opRememberState:
			if len(b.saved) >= maxRemembered {
				return pc, false
			}
			b.saved = append(b.saved, *st)
			continue
		}
		dirty = true
		if !b.define(op, &prog, c, fde) {
			return pc, false
		}
	}
	if prog.bad {
		return pc, false
	}
	if dirty && fde {
		b.row(pc, b.rules.intern(st, c))
	}
	return pc, true
}

// define runs an instruction that changes a rule.
func (b *builder) define(op uint8, prog *reader, c *cie, fde bool) bool {
	st := &b.state
	switch op {
	case opOffsetExtended:
		reg := prog.uleb()
		return b.offset(reg, atOffset, int64(prog.uleb())*c.dataAlign)
	case opOffsetExtendedSF:
		reg := prog.uleb()
		return b.offset(reg, atOffset, prog.sleb()*c.dataAlign)
	case opNegativeOffsetExtended:
		reg := prog.uleb()
		return b.offset(reg, atOffset, -int64(prog.uleb())*c.dataAlign)
	case opValOffset:
		reg := prog.uleb()
		return b.offset(reg, isOffset, int64(prog.uleb())*c.dataAlign)
	case opValOffsetSF:
		reg := prog.uleb()
		return b.offset(reg, isOffset, prog.sleb()*c.dataAlign)
	case opRestoreExtended:
		if !fde {
			return false
		}
		st.restore(prog.uleb(), &c.initial)
	case opUndefined:
		b.put(prog.uleb(), lost, 0)
	case opSameValue:
		b.put(prog.uleb(), inPlace, 0)
	case opRegister:
		reg, from := prog.uleb(), prog.uleb()
		if from >= uint64(b.im.arch.registers()) {
			// A vector register, say. Its value is not in the sample.
			b.put(reg, lost, 0)
		} else {
			b.put(reg, inReg, int32(from))
		}
	case opRestoreState:
		if len(b.saved) == 0 {
			return false
		}
		*st = b.saved[len(b.saved)-1]
		b.saved = b.saved[:len(b.saved)-1]
	case opDefCFA:
		reg := prog.uleb()
		return b.cfaRegister(reg) && b.cfaOffset(int64(prog.uleb()))
	case opDefCFASF:
		reg := prog.uleb()
		return b.cfaRegister(reg) && b.cfaOffset(prog.sleb()*c.dataAlign)
	case opDefCFARegister:
		return b.cfaRegister(prog.uleb())
	case opDefCFAOffset:
		return b.cfaOffset(int64(prog.uleb()))
	case opDefCFAOffsetSF:
		return b.cfaOffset(prog.sleb() * c.dataAlign)
	case opDefCFAExpression:
		var ok bool
		st.cfa.kind = cfaExpr
		st.expr, ok = b.rules.expr(prog.take(prog.uleb()))
		return ok
	case opExpression, opValExpression:
		reg := prog.uleb()
		n, ok := b.rules.expr(prog.take(prog.uleb()))
		if op == opExpression {
			b.put(reg, atExpr, n)
		} else {
			b.put(reg, isExpr, n)
		}
		return ok
	default:
		return false
	}
	return true
}

// put sets the rule of a register, if it is one that is kept.
func (b *builder) put(reg uint64, k kind, n int32) {
	if reg < uint64(b.im.arch.registers()) {
		b.state.set |= 1 << reg
		b.state.regs[reg] = save{reg: uint8(reg), kind: k, n: n}
	}
}

func (b *builder) offset(reg uint64, k kind, n int64) bool {
	b.put(reg, k, int32(n))
	return int64(int32(n)) == n
}

// cfaRegister and cfaOffset set one half of the CFA, as libgcc does it: the
// register replaces an expression, the offset waits until one does. Assembly
// relies on it.
func (b *builder) cfaRegister(reg uint64) bool {
	b.state.cfa.kind, b.state.cfa.reg = cfaReg, uint8(reg)
	return reg < uint64(b.im.arch.registers())
}

func (b *builder) cfaOffset(n int64) bool {
	b.state.cfa.n = int32(n)
	return int64(int32(n)) == n
}
