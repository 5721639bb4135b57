package bpftest

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
)

// ChangedText is where the code of a process is not that of its files.
func ChangedText(tb testing.TB, pid int) (changed []string) {
	tb.Helper()
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		tb.Fatal(err)
	}
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		tb.Fatal(err)
	}
	defer mem.Close()
	compared := 0
	for line := range strings.Lines(string(maps)) {
		fields := strings.Fields(line)
		if len(fields) < 6 || !strings.Contains(fields[1], "x") || !strings.HasPrefix(fields[5], "/") {
			continue
		}
		var start, end, offset int64
		if _, err := fmt.Sscanf(fields[0]+" "+fields[2], "%x-%x %x", &start, &end, &offset); err != nil {
			tb.Fatal(err)
		}
		there, file := make([]byte, end-start), make([]byte, end-start)
		if _, err := mem.ReadAt(there, start); err != nil {
			tb.Fatal(err)
		}
		f, err := os.Open(fmt.Sprintf("/proc/%d/map_files/%s", pid, fields[0]))
		if err != nil {
			tb.Fatal(err)
		}
		n, _ := f.ReadAt(file, offset) // the rest of the last page is zero
		f.Close()
		compared += n
		if bytes.Equal(there, file) {
			continue
		}
		for i := range there {
			if there[i] != file[i] {
				changed = append(changed, fmt.Sprintf("%s+%#x", fields[5], offset+int64(i)))
			}
		}
	}
	if compared == 0 {
		tb.Fatalf("process %d has no code of files", pid)
	}
	return changed
}
