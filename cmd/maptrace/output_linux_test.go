package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// stranger is a user who is neither root nor, in tests that are run as root, us.
const stranger = 65534

func TestLinksThatAnotherPutThereAreNotFollowed(t *testing.T) {
	t.Parallel()
	needRoot(t)
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o777|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := os.WriteFile(at("precious"), []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	for link, target := range map[string]string{"direct": at("precious"), "relative": "precious", "dangling": at("nothing")} {
		if err := errors.Join(os.Symlink(target, at(link)), os.Lchown(at(link), stranger, stranger)); err != nil {
			t.Fatal(err)
		}
	}
	// Ours, which leads to one of theirs.
	if err := os.Symlink("direct", at("behind")); err != nil {
		t.Fatal(err)
	}
	for _, link := range []string{"direct", "relative", "dangling", "behind"} {
		for _, flag := range []string{"--to", "--pprof", "--folded"} {
			r := inProcess(t, "grow", "-p", "4194305", flag, at(link))
			if r.code != exitError {
				t.Errorf("%s %s: exit code %d: %s", flag, link, r.code, r.stderr)
			}
			checkOneLine(t, r.stderr, "it is a symbolic link of another user (65534), which is not followed")
		}
		if err := createText(at(link), "ready"); err == nil {
			t.Errorf("a ready file is written through %s", link)
		}
	}
	if b, err := os.ReadFile(at("precious")); string(b) != "precious" {
		t.Errorf("where they lead to is %q, %v", b, err)
	}
	if _, err := os.Lstat(at("nothing")); !os.IsNotExist(err) {
		t.Errorf("where one leads to was made: %v", err)
	}
}

// In a directory for everybody a file may be there before ours.
func TestWhatOthersHavePutThereIsNotWrittenTo(t *testing.T) {
	t.Parallel()
	needRoot(t)
	for _, c := range []struct {
		mode  os.FileMode
		owner int
		taken bool
	}{
		{0o777 | os.ModeSticky, 0, false},       // as /tmp
		{0o777 | os.ModeSticky, stranger, true}, // his own
		{0o755, 0, true},                        // root has put it there
	} {
		dir := t.TempDir()
		file, fifo := filepath.Join(dir, "file"), filepath.Join(dir, "fifo")
		err := errors.Join(os.WriteFile(file, nil, 0o666), unix.Mkfifo(fifo, 0o666), os.Chown(file, stranger, stranger),
			os.Chown(fifo, stranger, stranger), os.Chown(dir, c.owner, c.owner), os.Chmod(dir, c.mode))
		if err != nil {
			t.Fatal(err)
		}
		if err = createText(file, "text"); (err == nil) != c.taken {
			t.Errorf("%v of %d: %v", c.mode, c.owner, err)
		}
		if c.taken {
			continue // to open the FIFO would wait
		}
		if err = createText(fifo, "text"); err == nil {
			t.Error("the FIFO was written to")
		}
		// ".." of where a link leads to is not the directory of the link.
		link := filepath.Join(t.TempDir(), "link")
		if err = errors.Join(os.Mkdir(filepath.Join(dir, "inner"), 0o755), os.Symlink(filepath.Join(dir, "inner"), link)); err != nil {
			t.Fatal(err)
		}
		if err = createText(link+"/../file", "text"); !errors.Is(err, errPlanted) {
			t.Errorf("by a link to a directory in it: %v", err)
		}
	}
}

func TestOurLinksAndTheSystemsAreFollowed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := os.Mkdir(at("logs"), 0o700); err != nil {
		t.Fatal(err)
	}
	for link, target := range map[string]string{"latest": "logs/today", "logs/today": "../file", "round": "round"} {
		if err := os.Symlink(target, at(link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := createText(at("latest"), "text"); err != nil {
		t.Error(err)
	}
	if b, err := os.ReadFile(at("file")); string(b) != "text" {
		t.Errorf("it holds %q, %v", b, err)
	}
	if err := createText(at("round"), "text"); !errors.Is(err, unix.ELOOP) {
		t.Errorf("a link to itself: %v", err)
	}
	for _, name := range []string{"/dev/null", "/dev/stdout", "/proc/self/fd/1"} {
		if _, err := os.Stat(name); err != nil {
			t.Logf("%s left out: %v", name, err)
			continue
		}
		out, err := exec.Command(binary(t), "trace", "--poll=10ms", "--duration", "1ms", "--to", name, "--", "true").CombinedOutput()
		if err != nil || (name != "/dev/null") != strings.Contains(string(out), "accuracy: ") {
			t.Errorf("--to %s: %v, it printed %q", name, err, out)
		}
	}
}

func TestFIFOsAreWrittenTo(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(name, 0o600); err != nil {
		t.Fatal(err)
	}
	read := make(chan string, 1)
	go func() {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Error(err)
		}
		read <- string(b)
	}()
	if err := createText(name, "text"); err != nil {
		t.Fatal(err)
	}
	if got := <-read; got != "text" {
		t.Errorf("read %q", got)
	}
}

// TestProfilesAreForTheirOwner has a run under a umask that takes nothing away.
func TestProfilesAreForTheirOwner(t *testing.T) {
	t.Parallel()
	needBPF(t)
	dir := t.TempDir()
	script := `umask 0; cd "$1"; exec "$2" grow --interval 20ms --pprof pprof --folded folded --to to --ready-file ready -- sleep 0.3`
	succeed(t, launch(t, exec.Command("sh", "-c", script, "sh", dir, binary(t))).result())
	for name, want := range map[string]os.FileMode{"pprof": 0o600, "folded": 0o600, "to": 0o666, "ready": 0o666} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Error(err)
		} else if info.Mode().Perm() != want {
			t.Errorf("%s: %v, want %v", name, info.Mode().Perm(), want)
		}
	}
}
