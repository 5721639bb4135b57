package symbol

import "testing"

func TestRustIsToldFromOtherLanguagesByItsSymbols(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"_ZN5alloc7raw_vec11finish_grow17h0123456789abcdefE":           true,
		"_ZN5alloc7raw_vec11finish_grow17h0123456789abcdefE.llvm.4711": true,
		"_RNvCs1234_7mycrate3foo":                                      true,
		"_ZN4core6Engine4loadEv":                                       false, // C++
		"_ZN4core17h0123456789abcdeEgE":                                false,
		"_ZN17h0123456789abcdefE":                                      true, // as short as it gets
		"_ZNE":                                                         false,
		"17h0123456789abcdefE":                                         false,
		"malloc":                                                       false,
		"":                                                             false,
	} {
		if got := ofRust(name); got != want {
			t.Errorf("%q: %v", name, got)
		}
	}
}
