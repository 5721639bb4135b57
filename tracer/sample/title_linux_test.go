package sample

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/maptrace/maptrace/procmaps"
)

func TestTitlesAreWhatProcessesWriteOverTheirArguments(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"postgres: checkpointer \x00\x00\x00": "postgres: checkpointer",
		"nginx: worker process\x00":           "nginx: worker process",
		"php-fpm: pool www":                   "php-fpm: pool www",
		"postgres\x00-D\x00/data: x\x00":      "",
		"/usr/bin/app: x\x00":                 "",
		"sh\x00-c\x00echo: it\x00":            "",
		"python3\x00app.py\x00":               "",
		"a name: rest\x00":                    "",
		"evil: \x1b[2J\x00":                   "evil: \x1b[2J", // who prints it escapes it
		"":                                    "",
	} {
		dir := filepath.Join(t.TempDir(), "1")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "cmdline"), []byte(line), 0o644); err != nil {
			t.Fatal(err)
		}
		fs, err := procmaps.NewFS(filepath.Dir(dir))
		if err != nil {
			t.Fatal(err)
		}
		p, err := fs.Process(1)
		if err != nil {
			t.Fatal(err)
		}
		if got := titleOf(p); got != want {
			t.Errorf("%q: title %q, want %q", line, got, want)
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
}
