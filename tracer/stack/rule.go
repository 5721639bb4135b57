package stack

import (
	"encoding/binary"
	"hash/maphash"
	"math/bits"
)

// kind says where the value that a register had in the caller is.
type kind uint8

const (
	inPlace  kind = iota // not changed: DW_CFA_same_value, or not mentioned
	lost                 // DW_CFA_undefined
	atOffset             // in memory, at CFA+n
	isOffset             // CFA+n
	inReg                // in register n
	atExpr               // in memory, where expression n says
	isExpr               // what expression n says
	cfaReg               // for the CFA: register plus n
	cfaExpr              // for the CFA: expression n
)

// save is the rule of one register.
type save struct {
	reg  uint8
	kind kind
	n    int32
}

// rule is how to get from a frame to its caller: the rules that hold for a run
// of instructions. Files have few that differ (a few thousand for a million
// runs), so each is kept once.
type rule struct {
	n     int32  // of the CFA
	first uint32 // of its saves
	saves uint8
	cfa   kind
	reg   uint8 // of the CFA
	ra    uint8 // the register whose value in the caller is the caller's pc
	// root: the pc of the caller is undefined, so there is none.
	// signal: the caller was interrupted and has made no call.
	root, signal bool
}

// noRule is the index of the rule of code that has none.
const noRule = 0

// Bounds on the rules of one file. What does not fit is code without a rule.
// libLLVM, which has the most of the files of a Debian, needs 1,002 rules.
const (
	maxRules = 1 << 16 // what an index of 16 bits can name
	maxSaves = 1 << 20
	maxExprs = 1 << 15
	maxExpr  = 1 << 10 // bytes of one expression
)

// ruleSet makes rules, equal ones once.
type ruleSet struct {
	rules []rule
	saves []save
	exprs [][]byte

	seed   maphash.Seed
	byRule map[uint64]uint16
	byExpr map[string]int32
	key    []byte
}

func newRuleSet() *ruleSet {
	return &ruleSet{
		rules:  make([]rule, 1, 512),
		seed:   maphash.MakeSeed(),
		byRule: make(map[uint64]uint16, 512),
		byExpr: make(map[string]int32),
	}
}

// expr returns the index of an expression.
func (s *ruleSet) expr(b []byte) (int32, bool) {
	if i, ok := s.byExpr[string(b)]; ok {
		return i, true
	}
	if len(s.exprs) >= maxExprs || len(b) > maxExpr {
		return 0, false
	}
	i := int32(len(s.exprs))
	b = append(make([]byte, 0, len(b)), b...)
	s.exprs = append(s.exprs, b)
	s.byExpr[string(b)] = i
	return i, true
}

// state is what the program of an FDE has built up.
type state struct {
	cfa  save  // its kind is inPlace while it is not defined
	expr int32 // of a cfaExpr. The register and offset of cfa outlive it.
	set  uint64
	regs [numRegs]save // those in set
}

func (st *state) restore(reg uint64, initial *state) {
	if reg >= numRegs {
		return
	}
	st.set = st.set&^(1<<reg) | initial.set&(1<<reg)
	st.regs[reg] = initial.regs[reg]
}

// intern returns the index of the rule that st describes, noRule when it
// describes none or there are too many.
func (s *ruleSet) intern(st *state, c *cie) uint16 {
	if st.cfa.kind == inPlace {
		return noRule
	}
	cfa := st.cfa
	if cfa.kind == cfaExpr {
		cfa.reg, cfa.n = 0, st.expr
	}
	k := append(s.key[:0], byte(cfa.kind), cfa.reg, c.ra, 0)
	if c.signal {
		k[3] = 1
	}
	k = binary.LittleEndian.AppendUint32(k, uint32(cfa.n))
	root := false
	for set := st.set; set != 0; set &= set - 1 {
		r := &st.regs[bits.TrailingZeros64(set)]
		switch {
		case r.kind == inPlace:
			continue
		case r.kind == lost && r.reg == c.ra:
			root = true
			k[3] |= 2
			continue
		}
		k = append(k, r.reg, byte(r.kind))
		k = binary.LittleEndian.AppendUint32(k, uint32(r.n))
	}
	s.key = k
	h := maphash.Bytes(s.seed, k)
	for {
		i, ok := s.byRule[h]
		if !ok {
			break
		}
		if s.equal(i, k) {
			return i
		}
		h++
	}
	const head, each = 8, 6
	n := (len(k) - head) / each
	if len(s.rules) >= maxRules || len(s.saves)+n > maxSaves {
		return noRule
	}
	i := uint16(len(s.rules))
	s.rules = append(s.rules, rule{
		n: cfa.n, first: uint32(len(s.saves)), saves: uint8(n), cfa: cfa.kind, reg: cfa.reg,
		ra: c.ra, root: root, signal: c.signal,
	})
	for k = k[head:]; len(k) > 0; k = k[each:] {
		s.saves = append(s.saves, save{reg: k[0], kind: kind(k[1]), n: int32(binary.LittleEndian.Uint32(k[2:]))})
	}
	s.byRule[h] = i
	return i
}

// equal reports whether rule i is the one with the key k.
func (s *ruleSet) equal(i uint16, k []byte) bool {
	const head, each = 8, 6
	r := &s.rules[i]
	var flags byte
	if r.signal {
		flags |= 1
	}
	if r.root {
		flags |= 2
	}
	if byte(r.cfa) != k[0] || r.reg != k[1] || r.ra != k[2] || flags != k[3] ||
		uint32(r.n) != binary.LittleEndian.Uint32(k[4:]) || int(r.saves)*each != len(k)-head {
		return false
	}
	k = k[head:]
	for _, v := range s.saves[r.first:][:r.saves] {
		if v.reg != k[0] || byte(v.kind) != k[1] || uint32(v.n) != binary.LittleEndian.Uint32(k[2:]) {
			return false
		}
		k = k[each:]
	}
	return true
}
