package attribution

import (
	"testing"

	"github.com/maptrace/maptrace/tracer/growth"
)

// TestTheHeapOfAJVMIsNoLeak has memory of a JVM, and of a program that is none.
func TestTheHeapOfAJVMIsNoLeak(t *testing.T) {
	t.Parallel()
	jvm := growth.Finding{Key: growth.Key{What: growth.File, Name: "/usr/lib/jvm/java-17/lib/server/libjvm.so"}}
	other := growth.Finding{Key: growth.Key{What: growth.File, Name: "/usr/lib/libc.so.6"}}
	for _, tt := range []struct {
		name string
		key  growth.Key
		file growth.Finding
		want growth.Label
	}{
		{"the heap", growth.Key{What: growth.Anon, Name: "ed400000-ffe00000"}, jvm, growth.Grows},
		{"what it was made larger by", growth.Key{What: growth.Pool, Name: growth.JVMPool}, jvm, growth.Grows},
		{"of another pool", growth.Key{What: growth.Pool, Name: "pymalloc"}, jvm, growth.Leaks},
		{"up to where references are compressed", growth.Key{What: growth.Anon, Name: "600000000-800000000"}, jvm, growth.Grows},
		{"above", growth.Key{What: growth.Anon, Name: "7f0000000000-7f0010000000"}, jvm, growth.Leaks},
		{"a page below", growth.Key{What: growth.Anon, Name: "601000-602000"}, jvm, growth.Leaks},
		{"made since", growth.Key{What: growth.Anon, Site: 7}, jvm, growth.Leaks},
		{"of malloc", growth.Key{What: growth.Heap}, jvm, growth.Leaks},
		{"of another program", growth.Key{What: growth.Anon, Name: "ed400000-ffe00000"}, other, growth.Leaks},
	} {
		leak := growth.Finding{Key: tt.key, Label: growth.Leaks, Measure: growth.Resident}
		found := []growth.Finding{leak, tt.file}
		a := &Attribution{}
		a.judgeJava(found)
		heap := tt.want == growth.Grows
		f := Finding{Evidence: Evidence{Finding: found[0]}}
		if found[0].Label != tt.want || f.UntilCollected() != heap || a.javaHeap(tt.key) != heap {
			t.Errorf("%s: %v, want %v; until it is collected %v", tt.name, found[0].Label, tt.want, f.UntilCollected())
		}
		if heap && a.subject(tt.key, false) != growth.JVMPool {
			t.Errorf("%s is called %q", tt.name, a.subject(tt.key, false))
		}
	}
}
