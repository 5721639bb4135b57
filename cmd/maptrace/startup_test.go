package main

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// initLine is what the Go runtime says of a package that has something to initialize.
var initLine = regexp.MustCompile(`(?m)^init (\S+) @\S+ ms, \S+ ms clock, (\d+) bytes, (\d+) allocs$`)

// TestLittleIsDoneBeforeMain asks the runtime what each package allocates before main
// begins: what pmap waits for, though it may need none of it. Times would depend on the
// machine.
func TestLittleIsDoneBeforeMain(t *testing.T) {
	t.Parallel()
	cmd := exec.Command(binary(t), "pmap", strconv.Itoa(os.Getpid()))
	cmd.Env = append(os.Environ(), "GODEBUG=inittrace=1")
	r := launch(t, cmd).result()
	if r.code != exitOK {
		t.Fatalf("exit code %d:\n%s", r.code, r.stderr)
	}
	// In all they are 146 KB: 43 of what draws (bubbletea, for tables of ultraviolet and
	// x/ansi mostly), 37 of cilium/ebpf (encoding/xml, and what its probes of features know),
	// 12 of demangle, 11 of the tables of unicode that regexp needs, and many that are small.
	const ours, most, mostInAll = "github.com/maptrace/maptrace/", 4 << 10, 144 << 10
	var bytes, packages int
	var large strings.Builder
	for _, m := range initLine.FindAllStringSubmatch(r.stderr, -1) {
		n, err := strconv.Atoi(m[2])
		if err != nil {
			t.Fatal(err)
		}
		bytes += n
		packages++
		if n > most {
			fmt.Fprintf(&large, "%8d %s\n", n, m[1])
		}
		if strings.HasPrefix(m[1], ours) && n > most {
			t.Errorf("%s allocates %d bytes, want at most %d", m[1], n, most)
		}
	}
	t.Logf("%d packages allocate %d bytes, of which those with more than %d:\n%s", packages, bytes, most, large.String())
	switch {
	case packages == 0:
		t.Errorf("the runtime says nothing:\n%s", r.stderr)
	case bytes > mostInAll:
		t.Errorf("want at most %d", mostInAll)
	}
}
