package symbol

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// The symbols are those of libstdc++, clang, LLVM, V8, node, cargo, rustc and libstd, as
// they are found there.
func TestShortNamesOfMangledSymbols(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		// Arguments of templates, each time there are any.
		"_ZNSt6vectorISt4pairINSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE5OrderESaIS8_EE9push_backERKS8_": "std::vector<...>::push_back",
		"_ZNSt5dequeIPN4llvm10sampleprof21ProfiledCallGraphNodeESaIS3_EE16_M_push_back_auxIJRKS3_EEEvDpOT_":        "std::deque<...>::_M_push_back_aux<...>",
		"_ZN2v88internal8compiler25CommonOperatorGlobalCache18TrapUnlessOperatorILNS1_6TrapIdE4EED1Ev":             "v8::internal::compiler::CommonOperatorGlobalCache::TrapUnlessOperator<...>::~TrapUnlessOperator",
		"_ZN4leak3BoxIiE4growEv":                "leak::Box<int>::grow",
		"_ZN12_GLOBAL__N_14leak3BoxISsE4growEv": "(anonymous namespace)::leak::Box<...>::grow",
		"_Z4pickIXgtLi2ELi1EE3BoxEvv":           "pick<...>",
		"_ZN3FooIXadL_ZN3BarptEvEEE4growEv":     "Foo<...>::grow",
		"_ZN4ListIiE4growILb1EEEvv":             "List<int>::grow<...>",
		// Operators.
		"_ZStlsIcSt11char_traitsIcEERSt13basic_ostreamIT_T0_ES6_St8_SetfillIS3_E": "std::operator<< <...>",
		"_ZN4llvm27DiagnosticPrinterRawOStreamlsERKNS_5ValueE":                    "llvm::DiagnosticPrinterRawOStream::operator<<",
		"_ZNK4llvm3pdb28DbiModuleSourceFilesIteratorltERKS1_":                     "llvm::pdb::DbiModuleSourceFilesIterator::operator<",
		"_ZN3BoxIlEgtERKS0_": "Box<...>::operator>",
		"_ZN3BoxIlEssERKS0_": "Box<...>::operator<=>",
		"_ZN3BoxIlEptEv":     "Box<...>::operator->",
		"_ZN3BoxIlEpmIlEEvv": "Box<...>::operator->*<...>",
		"_ZN3BoxIlErSEi":     "Box<...>::operator>>=",
		"_ZN3BoxIlEixEm":     "Box<...>::operator[]",
		"_ZNSt24uniform_int_distributionImEclISt26linear_congruential_engineImLm16807ELm0ELm2147483647EEEEmRT_RKNS0_10param_typeE": "std::uniform_int_distribution<...>::operator()<...>",
		"_ZNKSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEcvSt17basic_string_viewIcS2_EEv":                                    "std::__cxx11::basic_string<...>::operator std::basic_string_view<...>",
		"_Znwm": "operator new",
		// Lambdas, and parameter lists that are left.
		"_ZZN4node11Environment11CloseHandleI9uv_poll_sPFvPS2_EEEvPT_T0_ENUlP11uv_handle_sE_4_FUNESA_": "node::Environment::CloseHandle<...>::{lambda(uv_handle_s*)#1}::_FUN",
		"_ZZSt9call_onceIRFvvEJEEvRSt9once_flagOT_DpOT0_ENUlvE0_4_FUNEv":                               "std::call_once<...>::{lambda()#2}::_FUN",
		"_ZZNK3Foo4growEiENKUlRSt6vectorIlSaIlEEE_clES2_":                                              "Foo::grow::{lambda(std::vector<...>&)#1}::operator()",
		"_ZThn8_N5clang9ASTWriter22CompletedTagDefinitionEPKNS_7TagDeclE":                              "non-virtual thunk to clang::ASTWriter::CompletedTagDefinition",
		"_ZThn16_NK4node7UDPWrap11NonNestableEv":                                                       "non-virtual thunk to node::UDPWrap::NonNestable",
		// Rust, mangled as it was before, which has a hash, and as it is now.
		"_ZN42_$LT$$RF$T$u20$as$u20$core..fmt..Debug$GT$3fmt17h0a871db6d9d0bc1fE":                                                             "<&T as Debug>::fmt",
		"_ZN99_$LT$alloc..vec..Vec$LT$T$C$A$GT$$u20$as$u20$core..iter..traits..collect..Extend$LT$$RF$u64$GT$$GT$6extend17h0123456789abcdefE": "<Vec<T,A> as Extend<...>>::extend",
		"_ZN5alloc3vec16Vec$LT$T$C$A$GT$16extend_desugared17h0123456789abcdefE":                                                               "alloc::vec::Vec<T,A>::extend_desugared",
		"_ZN4core3ops8function5impls68_$LT$impl$u20$core..ops..function..Fn$LT$A$GT$$u20$for$u20$$RF$F$GT$4call17hf2d28d60903de89eE":          "core::ops::function::impls::<impl Fn<A> for &F>::call",
		"_ZN4core3str21_$LT$impl$u20$str$GT$18trim_start_matches17h2c4566ef98c4c4deE":                                                         "core::str::<impl str>::trim_start_matches",
		"_ZN3app4main28_$u7b$$u7b$closure$u7d$$u7d$17h0123456789abcdefE":                                                                      "app::main::{{closure}}",
		"_ZN4core3ptr85drop_in_place$LT$std..rt..lang_start$LT$$LP$$RP$$GT$..$u7b$$u7b$closure$u7d$$u7d$$GT$17h0123456789abcdefE":             "core::ptr::drop_in_place<...>",
		"_RNvMs_NtNtCs5wpeUTfK1SV_14regex_automata3dfa7onepassNtB4_7Builder6syntax":                                                           "regex_automata::dfa::onepass::Builder::syntax",
		"_RNCNvXs_NtNtCs26ezDKuLN16_5cargo7sources8replacedNtB6_14ReplacedSourceNtNtB8_6source6Source5query0Ba_":                              "<ReplacedSource as Source>::query::{closure#0}",
		"_RINvXs1_Cs5EXg1fTnOta_3hexAhj8_NtB6_5ToHex10encode_hexNtNtCslNYArtu3iFV_5alloc6string6StringECs26ezDKuLN16_5cargo":                  "<[u8; 8] as ToHex>::encode_hex::<...>",
		"_RNCNvNtNtCs26ezDKuLN16_5cargo4util4toml22normalize_package_tomls8_0B7_":                                                             "cargo::util::toml::normalize_package_toml::{closure#10}",
		// Neither.
		"operator<long long>": "operator<long long>",
		"malloc":              "malloc",
		"_Z":                  "_Z",
	} {
		if got := Short(demangled(name), name, false); got != want {
			t.Errorf("%s, %q: %q, want %q", name, demangled(name), got, want)
		}
	}
}

func TestShortNamesOfGo(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"github.com/acme/shop/internal/session.(*Store).Login":         "session.(*Store).Login",
		"github.com/acme/shop/v2.(*Store).Login":                       "shop/v2.(*Store).Login",
		"github.com/acme/shop/v2/internal.init.0":                      "internal.init.0",
		"github.com/acme/v8engine.Run":                                 "v8engine.Run",
		"gopkg.in/yaml%2ev3.(*Decoder).Decode":                         "yaml.v3.(*Decoder).Decode",
		"vendor/golang.org/x/net/http2/hpack.(*Encoder).WriteField-fm": "hpack.(*Encoder).WriteField-fm",
		"main.main.func1.2":                                            "main.main.func1.2",
		"main.(*Map[go.shape.string,github.com/acme/shop.Order]).Get":  "main.(*Map[...]).Get",
		"slices.SortFunc[...]":                                         "slices.SortFunc[...]",
		"github.com/acme/shop.Sum[int].func1":                          "shop.Sum[int].func1",
		"internal/runtime/maps.newarray":                               "maps.newarray",
		"type:.eq.github.com/acme/shop.Order":                          "type:.eq.github.com/acme/shop.Order",
		"github.com/acme/":                                             "github.com/acme/",
		"v2":                                                           "v2",
		"":                                                             "",
	} {
		if got := Short(name, name, true); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
	if got, name := Short("std::vector<long>::push_back", "_ZNSt6vectorIlE9push_backEv", true), "std::vector<...>::push_back"; got != name {
		t.Errorf("of C++ in a program of Go: %q, want %q", got, name)
	}
}

// What is named by other means than a mangled symbol is what its language has.
func TestNamesOfOtherLanguagesStayAsTheyAre(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"Ljava/util/HashMap;::resize", "java.util.HashMap.<init>(int, float)", "LazyCompile:*grow /srv/app/index.js:12:5",
		"-[NSArray<NSCopying> initWithObjects:count:]", "py::grow:/srv/app/main.py", "void [System.Private.CoreLib] System.Collections.Generic.List`1[System.__Canon]::Grow(int32)",
		"a/b.c", "operator<",
	} {
		if got := Short(name, "", false); got != name {
			t.Errorf("%q became %q", name, got)
		}
	}
}

func FuzzShort(f *testing.F) {
	const cxx, rust = "_ZN4leak3BoxIiE4growEv", "_RNvCs1234_7mycrate4__var"
	for _, name := range []string{
		"std::vector<std::pair<int, long> >::push_back(std::pair<int, long> const&) const", "std::operator<< <char, std::char_traits<char> >",
		"Foo<&Bar::operator->>::operator()(int)::{lambda(long)#1}::operator()", "A<(1 > 2)>::b", "(anonymous namespace)::f", "a<b::c(d", ")>]}", "a}(b)",
		"<alloc::vec::Vec<T,A> as core::iter::traits::collect::Extend<&T>>::extend", "<<a::B as c::D>::E as f::G>::h", "<a::B<C>>::d::<fn(e::F) -> g::H>", "<", "<>::a",
		"github.com/acme/shop/v2.(*Map[go.shape.string,a/b.C]).Get[int]", "gopkg.in/yaml%2ev3.F", "größe::日本<größe::日本>",
	} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		for _, lang := range []struct {
			linkage string
			golang  bool
		}{{cxx, false}, {rust, false}, {"", true}, {"", false}} {
			got := Short(name, lang.linkage, lang.golang)
			switch again := Short(got, lang.linkage, lang.golang); {
			case len(got) > len(name):
				t.Errorf("%q became longer: %q", name, got)
			case got == "" && name != "":
				t.Errorf("nothing is left of %q", name)
			case again != got:
				t.Errorf("%q became %q, and that %q", name, got, again)
			case utf8.ValidString(name) && !utf8.ValidString(got):
				t.Errorf("%q became %q", name, got)
			case strings.Contains(got, "\n") && !strings.Contains(name, "\n"):
				t.Errorf("%q has lines", got)
			}
		}
	})
}
