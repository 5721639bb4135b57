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
		"_ZN3foo17h0123456789abcdeE":                                   false,
		"_ZN3foo17h0123456789abcdefEv":                                 false,
		"malloc":                                                       false,
		"":                                                             false,
	} {
		if got := ofRust(name); got != want {
			t.Errorf("%q: %v", name, got)
		}
	}
}

func TestNamesOfRustKeepWhatTheSourceHas(t *testing.T) {
	t.Parallel()
	const hash = "17h0123456789abcdefE"
	for name, want := range map[string]string{
		"_ZN3std3env7_var_os" + hash:                       "std::env::_var_os",
		"_ZN3std3env6var_os" + hash:                        "std::env::var_os",
		"_ZN3std3env8__var_os" + hash:                      "std::env::__var_os",
		"_ZN2ru2_m1_1f" + hash:                             "ru::_m::_::f",
		"_ZN2ru1_" + hash + ".llvm.4711":                   "ru::_",
		"_ZN2ru1f" + hash + ".123":                         "ru::f",
		"_ZN2ru11_S$LT$T$GT$2_g" + hash:                    "ru::_S<T>::_g",
		"_ZN2ru4main28_$u7b$$u7b$closure$u7d$$u7d$" + hash: "ru::main::{{closure}}",
		"_ZN30_$LT$u32$u20$as$u20$ru.._T$GT$2_h" + hash:    "<u32 as ru::_T>::_h",
		"_ZN25_$LT$$RF$T$C$$LP$$RP$$GT$1f" + hash:          "<&T,()>::f",
		"_ZN24_$BP$mut$u20$$u5b$T$u5d$1f" + hash:           "*mut [T]::f",
		"_ZN2ru13gr$uf6$$udf$e" + hash:                     "ru::größe",
		"_ZN2ru15_$u65e5$$u672c$1f" + hash:                 "ru::日本::f",
		"_ZN2ru22_$u7b$vtable.shim$u7d$" + hash:            "ru::{vtable.shim}",
		"_ZN2ru5$u1b$" + hash:                              "ru::$u1b$",
		"_ZN2ru8$ud800$a" + hash:                           "ru::$ud800$a",
		"_ZN2ru4$XX$3$LT" + hash:                           "ru::$XX$::$LT",
		"_ZN2ru99short" + hash:                             "_ZN2ru99short" + hash, // malformed
		"_ZN2ru99999999999999999999f" + hash:               "_ZN2ru99999999999999999999f" + hash,
		"_ZN2rux" + hash:                                   "_ZN2rux" + hash,
		"_ZN4_a_bE":                                        "_a_b", // C++
		"_RNvCs1234_7mycrate4__var":                        "mycrate::_var",
	} {
		if got := demangled(name); got != want {
			t.Errorf("demangled(%q) = %q, want %q", name, got, want)
		}
	}
}

func FuzzDemangled(f *testing.F) {
	f.Add("_ZN2ru11_S$LT$T$GT$2_g17h0123456789abcdefE.llvm.1")
	f.Add("_ZN29_$LT$$u65e5$..C$GT$1f17h0123456789abcdefE")
	f.Add("_RNvCs1234_7mycrate4__var")
	f.Add("_ZN4leak3BoxIiE4growEv")
	f.Fuzz(func(t *testing.T, name string) {
		got := demangled(name)
		if len(got) > 1<<maxReadableLog+len(name) || got == "" && name != "" {
			t.Errorf("%d bytes of %d", len(got), len(name))
		}
	})
}
