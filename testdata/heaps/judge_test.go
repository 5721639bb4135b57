package heaps

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestJudge(t *testing.T) {
	leaky := Built{Case: Case{Leaks: true, Keepers: []string{"main.keep"}, Innocents: []string{"main.alloc"}}}
	calm := Built{Case: Case{Keepers: []string{"store"}, Innocents: []string{"churn"}}}
	for _, tt := range []struct {
		name    string
		b       Built
		found   []Finding
		outcome Outcome
		accused bool
		named   []string
		said    string
	}{
		{"nothing is found", leaky, nil, Undecided, false, nil, "nothing grows"},
		{
			"nobody is named", leaky,
			[]Finding{{Verdict: "grows", Sentence: "a file", Growth: 4}, {Verdict: "leaks", Sentence: "S", Growth: 5}},
			Undecided, false, nil, "S",
		},
		{
			"the keeper is named", leaky,
			[]Finding{{Verdict: "grows", Blamed: "main.keep (main.go:7)", Sentence: "S"}},
			Right, false,
			[]string{"main.keep"},
			"S",
		},
		{
			"what was inlined into the keeper is the keeper", leaky,
			[]Finding{{Verdict: "leaks", Blamed: "main.alloc (main.go:3) in main.keep (main.go:7)", Sentence: "S"}},
			Right, false,
			[]string{"main.keep"},
			"S",
		},
		{
			"the keeper is named in the second largest", leaky,
			[]Finding{
				{Verdict: "leaks", Blamed: "main.keep", Sentence: "small", Growth: 10},
				{Verdict: "leaks", Sentence: "S", Growth: 100},
				{Verdict: "grows", Sentence: "smaller", Growth: 1},
			},
			Undecided, false,
			[]string{"main.keep"},
			"S",
		},
		{
			"the keeper is named in the largest", leaky,
			[]Finding{{Verdict: "leaks", Growth: 10}, {Verdict: "leaks", Blamed: "main.keep", Sentence: "S", Growth: 100}},
			Right, false,
			[]string{"main.keep"},
			"S",
		},
		{
			"an innocent is named beside the keeper", leaky,
			[]Finding{
				{Verdict: "grows", Blamed: "main.alloc", Sentence: "I"},
				{Verdict: "leaks", Blamed: "main.keep", Sentence: "S", Growth: 100},
			},
			Innocent, false,
			[]string{"main.alloc", "main.keep"},
			"I",
		},
		{
			"an innocent is said to leak", leaky,
			[]Finding{{Verdict: "leaks", Blamed: "main.alloc (main.go:3)", Sentence: "I"}},
			Innocent, true,
			[]string{"main.alloc"},
			"I",
		},
		{
			"somebody unknown is named", leaky,
			[]Finding{{Verdict: "grows", Blamed: "a.out+0x10", Sentence: "I"}},
			Innocent, false,
			[]string{"a.out+0x10"},
			"I",
		},
		{
			"who is blamed for what does not grow is not accused", leaky,
			[]Finding{{Verdict: "steady", Blamed: "main.alloc"}, {Verdict: "sawtooth", Blamed: "main.alloc"}},
			Undecided, false, nil, "nothing grows",
		},
		{"nobody leaks and nobody is named", calm, []Finding{{Verdict: "plateau"}}, Right, false, nil, "nothing grows"},
		{
			"nobody leaks and the heap is said to", calm,
			[]Finding{{Verdict: "leaks", Sentence: "S"}},
			Right, true, nil, "S",
		},
		{
			"who holds what is there is named where it grows", calm,
			[]Finding{{Verdict: "grows", Blamed: "store", Sentence: "S"}},
			Right, false,
			[]string{"store"},
			"S",
		},
		{
			"who holds what is there is said to leak", calm,
			[]Finding{{Verdict: "leaks", Blamed: "store", Sentence: "S"}},
			Innocent, true,
			[]string{"store"},
			"S",
		},
		{
			"who holds nothing is named", calm,
			[]Finding{{Verdict: "grows", Blamed: "churn", Sentence: "S"}},
			Innocent, false,
			[]string{"churn"},
			"S",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tt.b.Judge(tt.found)
			if err != nil {
				t.Fatal(err)
			}
			want := Result{Case: tt.b.Case, Outcome: tt.outcome, Accused: tt.accused, Named: tt.named, Said: tt.said}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("want -, got +:\n%s", diff)
			}
		})
	}
}

func TestAddressesAreFunctionsOfTheFileWithNames(t *testing.T) {
	c := named("fifth stripped")[0]
	if err := c.Missing(t.Context()); err != nil {
		t.Skip(err)
	}
	b, err := c.Build(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	functions, err := Functions(b.named["deep-stripped"])
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range functions {
		for _, at := range []uint64{f.Start, f.Start + f.Size - 1} {
			got, err := b.function(fmt.Sprintf("deep-stripped+%#x", at))
			if err != nil || got != f.Name {
				t.Errorf("%#x is %q, want %q (%v)", at, got, f.Name, err)
			}
		}
	}
	for _, other := range []string{"deep-stripped+0x1", "libc.so.6+0x1234", "deep-stripped"} {
		if got, err := b.function(other); err != nil || got != other {
			t.Errorf("%s is %q (%v)", other, got, err)
		}
	}
}

func TestReadFindings(t *testing.T) {
	const lines = `{"event":"watch","pid":7,"looks":25}
{"event":"finding","pid":8,"verdict":"leaks","sentence":"of another"}
{"event":"finding","pid":7,"verdict":"leaks","sentence":"S","blamed":"f","growth":1}
{"event":"summary"}
`
	got, err := ReadFindings(strings.NewReader(lines), 7)
	if err != nil {
		t.Fatal(err)
	}
	want := []Finding{{Event: "finding", PID: 7, Verdict: "leaks", Sentence: "S", Blamed: "f", Growth: 1}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
	for name, text := range map[string]string{"no JSON": "{", "not watched": `{"event":"finding","pid":7}`} {
		if _, err := ReadFindings(strings.NewReader(text), 7); err == nil {
			t.Errorf("%s is no error", name)
		}
	}
}

func TestPrintCounts(t *testing.T) {
	var b strings.Builder
	err := Print(&b, []Result{
		{Case: Case{Name: "a", Allocator: "glibc", Leaks: true, Rate: 100e3}, Outcome: Right, Said: "A"},
		{Case: Case{Name: "bb", Allocator: "musl", Leaks: true, Rate: 10}, Outcome: Innocent, Accused: true, Said: "B"},
		{Case: Case{Name: "c", Allocator: "glibc", Leaks: true, Rate: 50e6}, Outcome: Undecided, Said: "C"},
		{Case: Case{Name: "d", Allocator: "glibc"}, Outcome: Right, Said: "D"},
		{Case: Case{Name: "e", Allocator: "glibc"}, Outcome: Innocent, Accused: true, Said: "E"},
	})
	if err != nil {
		t.Fatal(err)
	}
	const want = `PROGRAM  ALLOCATOR  BYTES/MIN   OUTCOME    ACCUSED  SAID
a        glibc      6000000     right      -        A
bb       musl       600         INNOCENT   leaks    B
c        glibc      3000000000  undecided  -        C
d        glibc      -           right      -        D
e        glibc      -           INNOCENT   leaks    E

of 3 that leak: 1 right, 1 undecided, 1 an innocent named
of 2 in which nobody leaks: 1 nobody named, 1 somebody named
an innocent is said to leak in 2
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
}
