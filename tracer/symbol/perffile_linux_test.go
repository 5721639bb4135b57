package symbol

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/internal/quota"
)

// sleeper starts a process, and returns it and where its perf map would be.
func sleeper(t *testing.T) (pid int, path string) {
	t.Helper()
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	path = fmt.Sprintf("/tmp/perf-%d.map", cmd.Process.Pid)
	_ = os.Remove(path) // another process, of another user, may have had the number
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = os.Remove(path)
	})
	return cmd.Process.Pid, path
}

func write(t *testing.T, path, text string, flags int) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|flags, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// anyPerfFile is a map at the expense of an account, with room for much.
func anyPerfFile(pid int, account *quota.Account) *PerfFile {
	return newPerfFile(pid, account, &NewCache(CacheOptions{}).perfMaps)
}

func refresh(p *PerfFile) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.refresh()
}

func TestPerfFileIsReadOnAsItGrowsAndAnewWhenItIsReplaced(t *testing.T) {
	t.Parallel()
	pid, path := sleeper(t)
	p := anyPerfFile(pid, nil)
	defer p.Close()
	if err := refresh(p); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a map: %v", err)
	}
	if p.Found() {
		t.Error("a map is found where there is none")
	}
	expect := func(when string, want string) {
		t.Helper()
		if err := refresh(p); err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		var got []string
		for _, addr := range []uint64{0x1000, 0x2000, 0x3000} {
			if name, _, _, ok := p.Lookup(addr); ok {
				got = append(got, name)
			}
		}
		if s := strings.Join(got, " "); s != want || !p.Found() {
			t.Errorf("%s: names %q, want %q; found %v", when, s, want, p.Found())
		}
	}
	write(t, path, "1000 10 first\n2000 10 sec", os.O_TRUNC)
	expect("with half a line", "first")
	write(t, path, "ond\n", os.O_APPEND)
	expect("with the line", "first second")
	write(t, path, "1000 10 moved\n3000 10 third\n", os.O_APPEND)
	expect("with more", "moved second third")
	write(t, path, "1000 10 anew\n", os.O_TRUNC)
	expect("when it was written anew", "anew")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	write(t, path, "1000 10 other\n2000 10 file\n", os.O_EXCL)
	expect("when it was replaced", "other file")
}

func TestPerfFilesTogetherHoldNoMoreThanTheirPartOfTheCache(t *testing.T) {
	t.Parallel()
	const most = 8 << 20
	c := NewCache(CacheOptions{MaxBytes: most})
	var text strings.Builder
	for i := range 1 << 17 {
		fmt.Fprintf(&text, "%x 10 function_%d\n", i*16, i)
	}
	var files []*PerfFile
	var pids []int
	for i := range 5 {
		pid, path := sleeper(t)
		write(t, path, text.String(), os.O_TRUNC)
		p := c.PerfFile(pid)
		defer p.Close()
		if name, _, _, ok := p.Lookup(8); !ok || name != "function_0" {
			t.Errorf("file %d: Lookup = %q, %v", i, name, ok)
		}
		if err, want := p.Err(), fmt.Sprintf("read perf map of process %d: too large", pid); !errors.Is(err, ErrTooLarge) || err.Error() != want {
			t.Errorf("file %d: %v, want %s", i, err, want)
		}
		files, pids = append(files, p), append(pids, pid)
	}
	if n := c.Bytes(); n > most/2 || n < most/4 {
		t.Errorf("%d bytes are held, want at most %d", n, most/2)
	}
	// Of processes that have ended nothing is kept when there is little room.
	before := c.Bytes()
	stop(t, pids[0])
	if err := refresh(files[1]); !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
	if n := c.Bytes(); n > before*2/3 {
		t.Errorf("%d bytes are held, %d before the end of a process with half of them", n, before)
	}
	for _, p := range files {
		p.Close()
	}
	if n := c.Bytes(); n != 0 {
		t.Errorf("%d bytes are held of none", n)
	}
}

// stop ends a process that a test has started.
func stop(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if _, err := syscall.Wait4(pid, nil, 0, nil); err != nil {
		t.Fatal(err)
	}
}

func TestPerfFilesThatTakeLongAreReadOnMoreRarely(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ took, want time.Duration }{
		{0, 250 * time.Millisecond},
		{time.Millisecond, 250 * time.Millisecond},
		{10 * time.Millisecond, 2 * time.Second},
		{time.Minute, 5 * time.Second},
	} {
		if got := pause(tt.took); got != tt.want {
			t.Errorf("after %v the pause is %v, want %v", tt.took, got, tt.want)
		}
	}
	pid, path := sleeper(t)
	p := anyPerfFile(pid, reads(1<<30).Of("process", pid))
	defer p.Close()
	if p.Lookup(0x1000); p.took <= 0 {
		t.Errorf("a look takes %v", p.took)
	}
	write(t, path, "1000 10 name\n", os.O_TRUNC)
	p.next = p.next.Add(time.Hour)
	if name, _, _, ok := p.Lookup(0x1000); ok {
		t.Errorf("%q was found before it is time to look", name)
	}
	p.next = time.Now()
	if name, _, _, ok := p.Lookup(0x1000); !ok || name != "name" {
		t.Errorf("Lookup = %q, %v", name, ok)
	}
}

func TestPerfFileThatIsNoRegularFileOfTheUserIsRefused(t *testing.T) {
	t.Parallel()
	const text = "1000 10 name\n"
	for name, create := range map[string]func(path string) error{
		"a FIFO": func(path string) error { return syscall.Mkfifo(path, 0o666) },
		"a link": func(path string) error { return os.Symlink("/etc/passwd", path) },
		"a directory": func(path string) error {
			return os.Mkdir(path, 0o777)
		},
		"a file of another user": func(path string) error {
			if os.Geteuid() != 0 {
				t.Skip("needs root")
			}
			return errors.Join(os.WriteFile(path, []byte(text), 0o666), os.Chown(path, 65534, 65534))
		},
	} {
		pid, path := sleeper(t)
		if err := create(path); err != nil {
			t.Fatal(err)
		}
		done := refreshLater(pid)
		select {
		case err := <-done:
			if err == nil {
				t.Errorf("%s was read", name)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%s: waits", name)
		}
	}
}

// refreshLater refreshes in the background, as it might wait.
func refreshLater(pid int) <-chan error {
	done := make(chan error, 1)
	go func() { done <- refresh(anyPerfFile(pid, nil)) }()
	return done
}

func TestFunctionsOfNodeAreNamed(t *testing.T) {
	t.Parallel()
	need(t, "node")
	pid := start(t, "node", "--perf-basic-prof", "-e", `
function leakyFunction(n) { const all = []; for (let i = 0; i < n; i++) all.push(Buffer.alloc(16)); return all.length }
let sum = 0
for (let i = 0; i < 3000; i++) sum += leakyFunction(50)
console.log(sum)
setTimeout(() => {}, 60000)
`)
	path := fmt.Sprintf("/tmp/perf-%d.map", pid)
	t.Cleanup(func() { _ = os.Remove(path) })
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var addr uint64
	var name string
	for sc := bufio.NewScanner(f); sc.Scan(); {
		if strings.Contains(sc.Text(), "leakyFunction") {
			fields := strings.SplitN(sc.Text(), " ", 3)
			if _, err = fmt.Sscanf(fields[0], "%x", &addr); err != nil {
				t.Fatal(err)
			}
			name = fields[2]
		}
	}
	if addr == 0 {
		t.Fatal("node writes nothing of the function")
	}
	c := newCache(t, CacheOptions{})
	proc, err := procmaps.Default().Process(pid)
	if err != nil {
		t.Fatal(err)
	}
	defer proc.Close()
	rows, err := proc.Maps()
	if err != nil {
		t.Fatal(err)
	}
	p := c.Process(pid)
	defer p.Close()
	for i := range rows {
		if !rows[i].Contains(addr) {
			continue
		}
		place, err := p.Resolve(&rows[i], addr+1, true, nil)
		if err != nil || place.Function.Name != name || len(place.Lines) != 1 {
			t.Errorf("Resolve(%#x) = %+v, %v; want %s", addr, place, err, name)
		}
		return
	}
	t.Errorf("nothing is mapped at %#x", addr)
}
