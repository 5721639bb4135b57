package site

import (
	"encoding/hex"
	"slices"
	"strings"
	"testing"

	"github.com/maptrace/maptrace/tracer/stack"
)

func TestTheProbePointIsWhatTheKernelDoesItself(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		code  string
		skip  int
		ok    bool
		frees bool
	}{
		"a push":                           {"41 54 55 53 48 89 fb", 0, true, false},                 // push %r12; push %rbp
		"a test and a jump":                {"48 85 ff 0f 84 bf 00 00 00 55", 3, true, false},        // test %rdi,%rdi; je
		"a landing pad and a push":         {"f3 0f 1e fa 55 48 89 e5", 4, true, false},              // endbr64; push %rbp
		"a move to where no argument is":   {"48 89 f8 55", 3, true, false},                          // mov %rdi,%rax; push
		"an argument is changed":           {"48 89 c7 55", 0, false, false},                         // mov %rax,%rdi; push
		"the stack pointer is changed":     {"48 83 ec 18 e8 00 00 00 00", 0, false, false},          // sub $24,%rsp; call
		"half of an argument is changed":   {"89 c6 55", 0, false, false},                            // mov %eax,%esi
		"it returns":                       {"31 c0 c3 55", 0, false, false},                         // xor %eax,%eax; ret
		"a jump to elsewhere":              {"e9 10 00 00 00", 0, true, false},                       // jmp
		"a jump through memory":            {"ff 25 10 00 00 00", 0, false, false},                   // jmp *0x10(%rip)
		"too much before it":               {strings.Repeat("48 85 ff ", 8) + "55", 0, false, false}, // test, 8 times
		"less before what frees":           {strings.Repeat("48 85 ff ", 8) + "55", 24, true, true},
		"too much before what frees":       {strings.Repeat("48 85 ff ", 16) + "55", 0, false, true},
		"what frees has one argument":      {"48 8b 15 0e 53 0a 00 64 48 03 04 25 00 00 00 00 75 10", 16, true, true}, // mov mem,%rdx; add %fs:0,%rax; jne
		"what allocates may have more":     {"48 8b 15 0e 53 0a 00 75 10", 0, false, false},
		"the block is changed":             {"48 89 c7 55", 0, false, true},
		"no code":                          {"06 06 06", 0, false, false}, // not in 64 bits
		"nothing":                          {"", 0, false, false},
		"a byte of an argument is changed": {"40 b7 01 55", 0, false, false}, // mov $1,%dil
	} {
		code, err := hex.DecodeString(strings.ReplaceAll(tt.code, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		if skip, ok := probePoint(code, stack.AMD64, tt.frees); skip != tt.skip || ok != tt.ok {
			t.Errorf("%s: %d, %v; want %d, %v", name, skip, ok, tt.skip, tt.ok)
		}
		if skip, ok := probePoint(code, stack.ARM64, tt.frees); skip != 0 || ok {
			t.Errorf("%s: %d, %v on arm64", name, skip, ok)
		}
	}
}

func TestWhereAFunctionReturns(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		code string
		want []int
	}{
		"at its end":                 {"f3 0f 1e fa 48 85 ff c3", []int{7}},
		"at two places":              {"48 85 ff 74 01 c3 31 c0 c3", []int{5, 8}},
		"an immediate is none":       {"b8 c3 c3 c3 c3 c3", []int{5}},
		"elsewhere":                  {"e9 10 00 00 00", nil},
		"what is not known comes":    {"c3 06", nil},
		"at more places than likely": {strings.Repeat("c3", 20), nil},
	} {
		code, err := hex.DecodeString(strings.ReplaceAll(tt.code, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		if got := returns(code, stack.AMD64); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %d, want %d", name, got, tt.want)
		}
		if got := returns(code, stack.ARM64); got != nil {
			t.Errorf("%s: %d on arm64", name, got)
		}
	}
}

func FuzzProbePoint(f *testing.F) {
	f.Add([]byte{0x48, 0x85, 0xff, 0x0f, 0x84, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, code []byte) {
		if skip, ok := probePoint(code, stack.AMD64, len(code)%2 == 0); skip < 0 || ok && skip >= len(code) || !ok && skip != 0 {
			t.Errorf("%x: %d, %v", code, skip, ok)
		}
		for _, at := range returns(code, stack.AMD64) {
			if at < 0 || at >= len(code) {
				t.Errorf("%x: returns at %d", code, at)
			}
		}
	})
}
