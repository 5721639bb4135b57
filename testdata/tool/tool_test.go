package tool

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAToolThatDoesNotRunIsNotThere(t *testing.T) {
	dir := t.TempDir()
	for name, script := range map[string]string{
		// What rustup leaves where no toolchain is installed.
		"without-toolchain": "echo 'error: no default toolchain is set' >&2; echo more >&2; exit 1",
		"works":             `test "$1" = --version`,
		"is-killed":         "kill -9 $$",
		// It has its own way to be asked.
		"java": `test "$1" = -version`,
		"gcc":  "read line; test \"$line\" = '#include <stdio.h>'",
		"g++":  "echo '<stdin>:1:10: fatal error: stdio.h: No such file or directory'; exit 1",
	} {
		if err := WriteProgram(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script+"\n")); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "not-executable"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
	for _, tt := range []struct{ name, err string }{
		{"works", ""},
		{"java", ""},
		{"gcc", ""},
		{"absent", "needs absent, which is not installed"},
		{"not-executable", "needs not-executable, which is not installed"},
		{"without-toolchain", "needs without-toolchain, which does not run: exit status 1: error: no default toolchain is set"},
		{"is-killed", "needs is-killed, which does not run: signal: killed"},
		{"g++", "needs g++, which does not run: exit status 1: <stdin>:1:10: fatal error: stdio.h: No such file or directory"},
	} {
		path, err := Path(tt.name)
		if tt.err == "" && (err != nil || path != filepath.Join(dir, tt.name)) {
			t.Errorf("%s: path %q, %v", tt.name, path, err)
		}
		if tt.err != "" && (err == nil || strings.TrimRight(err.Error(), ": ") != tt.err) {
			t.Errorf("%s: path %q, error %q, want %q", tt.name, path, err, tt.err)
		}
	}
}

func TestAToolIsTriedOnce(t *testing.T) {
	dir := t.TempDir()
	script := "#!/bin/sh\nset -C\n: >\"${0%/*}/tried\"\n" // which fails the second time
	if err := WriteProgram(filepath.Join(dir, "tried-once"), []byte(script)); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
	for range 3 {
		if _, err := Path("tried-once"); err != nil {
			t.Error(err)
		}
	}
}

func TestWhatIsThereIsNotMadeAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "made")
	for range 2 {
		if err := Make(t.Context(), path, "sh", "-c", `set -C; : >"$1"`, "sh", path); err != nil {
			t.Error(err)
		}
	}
	err := Make(t.Context(), path+"-not", "sh", "-c", "echo no room; exit 3")
	if err == nil || err.Error() != "sh -c echo no room; exit 3: exit status 3\nno room\n" {
		t.Errorf("a command that fails gives %v", err)
	}
}
