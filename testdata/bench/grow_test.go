//go:build linux && (amd64 || arm64)

package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTheFirstStackOfHeaptrack(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ list, want string }{
		"several stacks with one innermost function": {`2.08M leaked over 284925 calls from
xmalloc
  at /tmp/server.c:56
  in /tmp/server
1.48M leaked over 1235 calls from:
    login
      at /tmp/server.c:78
      in /tmp/server
    main
      at /tmp/server.c:212
316.80K leaked over 264 calls from:
    logout
`, "xmalloc < login < main"},
		"one":  {"1.00M leaked over 9 calls from\nleak(int)\n  in /tmp/a\n\n5B leaked over 1 calls from\nother\n", "leak(int)"},
		"none": {"\nMOST TEMPORARY ALLOCATIONS\n", ""},
	}
	for name, tt := range tests {
		if got := heaptrackStack(tt.list); got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}

func TestTheLastStackOfMemleak(t *testing.T) {
	t.Parallel()
	out := filepath.Join(t.TempDir(), "out")
	text := `Attaching to pid 12, Ctrl+C to quit.
[01:05:00] Top 10 stacks with outstanding allocations:
	10 bytes in 1 allocations from stack
		0x0000563f0bff1659	other+0x9 [server]
	815264 bytes in 784 allocations from stack
		0x00007f3f0bff1659	calloc+0x9 [libc.so.6]
		0x0000563f0bff1659	xmalloc+0x9 [server]
		0x0000563f0bff1700	login+0x20 [server]
`
	if err := os.WriteFile(out, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := lastOfMemleak(t.Context(), out)
	if want := "xmalloc+0x9 < login+0x20"; err != nil || got != want {
		t.Errorf("%q, %v, want %q", got, err, want)
	}
}

func TestWhatAToolSaidOfAProgram(t *testing.T) {
	t.Parallel()
	leak := leakCase{culprits: []string{"login", "register"}}
	calm := leakCase{}
	got := []string{leak.said("xmalloc+0x9 < login+0x20"), leak.said("login (server.c:78)"), leak.said(""), leak.said("a|b+0x9 < main"), calm.said("render"), calm.said("")}
	want := []string{"named", "named", "nobody", "another: a/b", "another: render", "nobody"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

func TestAToolIsStartedWithTheVariablesOfTheProgram(t *testing.T) {
	t.Parallel()
	tool := []string{"heaptrack", "-o", "x"}
	got := [][]string{startUnder(tool, []string{"prog", "a=b"}), startUnder(tool, []string{"env", "LD_PRELOAD=y", "prog"})}
	want := [][]string{{"heaptrack", "-o", "x", "prog", "a=b"}, {"env", "LD_PRELOAD=y", "heaptrack", "-o", "x", "prog"}}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}
