package export

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	pprof "github.com/google/pprof/profile"
)

// twoFrames is a profile with all that a profile of ours may have.
func twoFrames() *profile {
	exe := &mapping{id: 1, start: 0x400000, limit: 0x500000, file: "/bin/server", buildID: "0123abcd", hasFunctions: true, hasFilenames: true, hasLineNumbers: true, hasInlineFrames: true}
	jit := &mapping{id: 2, limit: ^uint64(0), offset: 4096, file: "[jit]"}
	leak := &function{1, "ns::leak(int)", "_ZN2ns4leakEi", "a/server.cc", 80}
	main := &function{2, "main", "main", "a/server.cc", 0}
	inner := &location{1, exe, 0x400123, []line{{leak, 88}, {main, 12}}}
	outer := &location{id: 2, mapping: jit, address: 1<<63 + 5}
	return &profile{
		sampleTypes: []valueType{{"mapped_space", "bytes"}, {"alloc_objects", "count"}},
		samples: []*sample{
			{[]*location{inner, outer}, []int64{1 << 40, 0}, "[ anon ]"},
			{[]*location{outer}, []int64{0, -1}, "Go heap"},
		},
		mappings: []*mapping{exe, jit}, locations: []*location{inner, outer}, functions: []*function{leak, main},
		timeNanos: 1e18, periodType: valueType{"space", "bytes"}, period: 1,
		comments: []string{"one", "two"}, defaultSampleType: "mapped_space",
	}
}

func TestProfilesAreWhatPprofReads(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	if err := twoFrames().write(&b); err != nil {
		t.Fatal(err)
	}
	got, err := pprof.Parse(&b)
	if err != nil {
		t.Fatal(err)
	}
	if err := got.CheckValid(); err != nil {
		t.Error(err)
	}
	exe := &pprof.Mapping{ID: 1, Start: 0x400000, Limit: 0x500000, File: "/bin/server", BuildID: "0123abcd", HasFunctions: true, HasFilenames: true, HasLineNumbers: true, HasInlineFrames: true}
	jit := &pprof.Mapping{ID: 2, Limit: ^uint64(0), Offset: 4096, File: "[jit]"}
	leak := &pprof.Function{ID: 1, Name: "ns::leak(int)", SystemName: "_ZN2ns4leakEi", Filename: "a/server.cc", StartLine: 80}
	main := &pprof.Function{ID: 2, Name: "main", SystemName: "main", Filename: "a/server.cc"}
	inner := &pprof.Location{ID: 1, Mapping: exe, Address: 0x400123, Line: []pprof.Line{{Function: leak, Line: 88}, {Function: main, Line: 12}}}
	outer := &pprof.Location{ID: 2, Mapping: jit, Address: 1<<63 + 5}
	want := &pprof.Profile{
		SampleType: []*pprof.ValueType{{Type: "mapped_space", Unit: "bytes"}, {Type: "alloc_objects", Unit: "count"}},
		Sample: []*pprof.Sample{
			{Location: []*pprof.Location{inner, outer}, Value: []int64{1 << 40, 0}, Label: map[string][]string{"memory": {"[ anon ]"}}},
			{Location: []*pprof.Location{outer}, Value: []int64{0, -1}, Label: map[string][]string{"memory": {"Go heap"}}},
		},
		Mapping: []*pprof.Mapping{exe, jit}, Location: []*pprof.Location{inner, outer}, Function: []*pprof.Function{leak, main},
		TimeNanos: 1e18, PeriodType: &pprof.ValueType{Type: "space", Unit: "bytes"}, Period: 1,
		Comments: []string{"one", "two"}, DefaultSampleType: "mapped_space",
	}
	unexported := cmpopts.IgnoreUnexported(pprof.Profile{}, pprof.Sample{}, pprof.Mapping{}, pprof.Location{}, pprof.Line{}, pprof.Function{}, pprof.ValueType{})
	if d := cmp.Diff(want, got, unexported, cmpopts.EquateEmpty()); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestAProfileThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	r, w := io.Pipe()
	r.Close()
	if err := twoFrames().write(w); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("got %v, want %v", err, io.ErrClosedPipe)
	}
}
