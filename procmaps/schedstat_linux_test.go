package procmaps

import (
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestSwitchesAreCounted(t *testing.T) {
	p, err := Default().Process(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	before, err := p.Switches()
	if err != nil {
		t.Fatal(err)
	}
	if before == 0 {
		t.Skip("this kernel does not count them")
	}
	runtime.LockOSThread() // which sleeps each time, and is not ended meanwhile
	defer runtime.UnlockOSThread()
	const times = 50
	for range times {
		time.Sleep(100 * time.Microsecond)
	}
	if after, err := p.Switches(); after < before+times/2 || err != nil {
		t.Errorf("%d, and %d after %d more, %v", before, after, times, err)
	}
}

func FuzzParseSchedstat(f *testing.F) {
	for _, s := range []string{"1 2 3\n", "1 2\n", "1 2 3 4\n", "1 2 -3\n", "1 2 18446744073709551616\n", "", "x y z"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if n := parseSchedstat(data); n != 0 && !strings.Contains(string(data), strings.TrimLeft(strconv.FormatUint(n, 10), "0")) {
			t.Errorf("%q is %d", data, n)
		}
	})
}
