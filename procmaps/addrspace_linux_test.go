package procmaps

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func openAddressSpace(t *testing.T, p *Process) *AddressSpace {
	t.Helper()
	a, err := p.OpenAddressSpace()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a
}

func TestAnAddressSpaceShowsWhatMapsDoes(t *testing.T) {
	t.Parallel()
	p := stopped(t, "sleep", "60")
	want, err := p.Maps()
	if err != nil || len(want) == 0 {
		t.Fatalf("%d rows, %v", len(want), err)
	}
	a := openAddressSpace(t, p)
	var got []Mapping
	for range 2 { // the second time into the space of the first
		if got, err = a.Maps(got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(got, want); diff != "" {
			t.Fatalf("(-got +want):\n%s", diff)
		}
	}
}

func TestAnAddressSpaceEndsWithExec(t *testing.T) {
	t.Parallel()
	cmd, in := start(t, "sh", "-c", "read line; exec cat")
	p := openProcess(t, cmd.Process.Pid)
	waitForState(t, p, 'S')
	a := openAddressSpace(t, p)
	if rows, err := a.Maps(nil); err != nil || len(rows) == 0 {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	if _, err := io.WriteString(in, "go\n"); err != nil {
		t.Fatal(err)
	}
	for {
		st, err := p.Stat()
		if err != nil {
			t.Fatal(err)
		}
		if st.Comm == "cat" {
			break
		}
	}
	if rows, err := a.Maps(nil); !errors.Is(err, ErrNoMemory) || len(rows) != 0 {
		t.Errorf("of the old image: %d rows, %v; want ErrNoMemory", len(rows), err)
	}
	if rows, err := openAddressSpace(t, p).Maps(nil); err != nil || len(rows) == 0 {
		t.Errorf("of the new image: %d rows, %v", len(rows), err)
	}
}

func TestAnAddressSpaceEndsWithItsProcess(t *testing.T) {
	t.Parallel()
	cmd, in := start(t, "cat")
	p := openProcess(t, cmd.Process.Pid)
	waitForState(t, p, 'S') // by then it is cat, and not what is to become it
	a := openAddressSpace(t, p)
	in.Close()
	waitForEnd(t, p)
	// Its memory goes before that, save where somebody reads something of it in the
	// kernel at that moment.
	rows, err := a.Maps(nil)
	for deadline := time.Now().Add(10 * time.Second); err == nil && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		rows, err = a.Maps(rows)
	}
	if !errors.Is(err, ErrNoMemory) || len(rows) != 0 {
		t.Errorf("of a zombie: %d rows, %v; want ErrNoMemory", len(rows), err)
	}
	if _, err := p.OpenAddressSpace(); !errors.Is(err, ErrNoMemory) {
		t.Errorf("opening that of a zombie: %v, want ErrNoMemory", err)
	}
	_ = cmd.Wait() // it ended well
	if _, err := p.OpenAddressSpace(); !errors.Is(err, ErrGone) {
		t.Errorf("opening that of a process that is gone: %v, want ErrGone", err)
	}
}

func TestAZombieTellsHowItEnded(t *testing.T) {
	t.Parallel()
	cmd, _ := start(t, "cat")
	p := openProcess(t, cmd.Process.Pid)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	waitForEnd(t, p)
	st, err := p.Stat()
	if want := uint32(syscall.SIGKILL); err != nil || st.ExitStatus != want {
		t.Errorf("status %#x, %v; want %#x", st.ExitStatus, err, want)
	}
}

func TestAMapsFileThatIsNone(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		text string
		want error
	}{
		{"", ErrNoMemory},
		{"1000-2000 rw-p 00000000 00:00 0\nnonsense\n", ErrParse},
		{"1000-2000 rw-p 00000000 00:00 0", ErrParse}, // cut
	} {
		root := t.TempDir()
		if err := os.Mkdir(filepath.Join(root, "7"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, "7", "maps"), []byte(tt.text), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := NewFS(root)
		if err != nil {
			t.Fatal(err)
		}
		p, err := f.Process(7)
		if err != nil {
			t.Fatal(err)
		}
		a, err := p.OpenAddressSpace()
		if err == nil {
			_, err = a.Maps(nil)
			a.Close()
		}
		if !errors.Is(err, tt.want) {
			t.Errorf("of %q: %v, want %v", tt.text, err, tt.want)
		}
		p.Close()
	}
}
