//go:build amd64 || arm64

package bpf

import (
	"errors"
	"os"
	"slices"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/google/go-cmp/cmp"
)

// timing is a record as the kernel side sends it.
func timing(op Op) []byte {
	m := mmMmTiming{
		Ret: -12, Args: [6]uint64{5, 6, 7, 8, 9, 10}, Stack: 11, Duration: 12, Wait: 13, Hold: 14,
		WriteHold: 15, Longest: 16, Skipped: mmMmLatCarry{Calls: 17, Duration: 18, Wait: 19, Hold: 20},
		Locks: 21, Slow: 1,
	}
	m.Head.Time, m.Head.Space, m.Head.Tgid, m.Head.Tid, m.Head.Op = 1, 2, 3, 4, uint8(op)
	return append([]byte(nil), unsafe.Slice((*byte)(unsafe.Pointer(&m)), unsafe.Sizeof(m))...)
}

func TestATimingIsDecodedOrRefused(t *testing.T) {
	t.Parallel()
	want := Timing{
		Time: 1, Space: 2, TGID: 3, TID: 4, Op: OpMunmap, Slow: true, Locks: 21, Ret: -12,
		Args: [6]uint64{5, 6, 7, 8, 9, 10}, Stack: 11, Duration: 12, Wait: 13, Hold: 14, WriteHold: 15, Longest: 16,
		Skipped: Skipped{Calls: 17, Duration: 18, Wait: 19, Hold: 20},
	}
	var got Timing
	if err := decodeTiming(timing(OpMunmap), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	good := timing(OpMmap)
	for name, raw := range map[string][]byte{
		"nothing": nil, "short": good[:len(good)-1], "long": append(slices.Clip(good), 0),
		"no operation": timing(0), "an operation that is no call": timing(OpExec),
	} {
		if err := decodeTiming(raw, &got); err == nil {
			t.Errorf("%s was decoded as %+v", name, got)
		}
	}
}

func FuzzDecodeTiming(f *testing.F) {
	f.Add(timing(OpMmap))
	f.Add(timing(OpFork)[:40])
	f.Fuzz(func(t *testing.T, raw []byte) {
		var tm Timing
		if err := decodeTiming(raw, &tm); err == nil && (tm.Op < OpMmap || tm.Op > OpFork) {
			t.Fatalf("decoded %+v", tm)
		}
	})
}

func TestNothingIsMeasuredUnlessAskedFor(t *testing.T) {
	t.Parallel()
	for _, asked := range []bool{false, true} {
		s, err := loadMm()
		if err != nil {
			t.Fatal(err)
		}
		var o *LatencyOptions
		if asked {
			o = &LatencyOptions{}
		}
		kernel, err := btf.LoadKernelSpec()
		if err != nil {
			t.Skip(err)
		}
		if err := latencySpec(s, kernel, o); err != nil {
			t.Fatal(err)
		}
		for _, p := range latencyPrograms {
			if (s.Programs[p.name] != nil) != asked {
				t.Errorf("asked %v: program %s is there: %v", asked, p.name, !asked)
			}
		}
		for _, m := range []string{mmMapLats, mmMapTimings} {
			if (s.Maps[m] != nil) != asked {
				t.Errorf("asked %v: map %s is there: %v", asked, m, !asked)
			}
		}
	}
}

func TestOddLatencyOptionsAreRefused(t *testing.T) {
	t.Parallel()
	kernel, err := btf.LoadKernelSpec()
	if err != nil {
		t.Skip(err)
	}
	for _, o := range []LatencyOptions{{Slow: -1}, {Rate: -1}, {Rate: int(time.Second) + 1}} {
		if _, err := spec(kernel, Options{Latency: &o}); err == nil {
			t.Errorf("%+v was accepted", o)
		}
	}
}

// TestAKernelWithoutTheLockTracepointsIsNamed gives the types of no kernel at all.
func TestAKernelWithoutTheLockTracepointsIsNamed(t *testing.T) {
	t.Parallel()
	b, err := btf.NewBuilder([]btf.Type{&btf.Int{Name: "int", Size: 4}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := b.Marshal(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	path := t.TempDir() + "/btf"
	if err = os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	kernel, err := btf.LoadSpec(path)
	if err != nil {
		t.Fatal(err)
	}
	s, err := loadMm()
	if err != nil {
		t.Fatal(err)
	}
	if err := latencySpec(s, kernel, &LatencyOptions{}); !errors.Is(err, ebpf.ErrNotSupported) {
		t.Errorf("got %v, want that it is not supported", err)
	}
}
