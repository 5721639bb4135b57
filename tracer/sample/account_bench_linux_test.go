package sample

import (
	"os"
	"testing"

	"github.com/maptrace/maptrace/procmaps"
)

// BenchmarkAccount reads what this process is charged for, as is done at each look.
func BenchmarkAccount(b *testing.B) {
	fs := procmaps.Default()
	var a account
	var of segments
	for b.Loop() {
		p, err := fs.Process(os.Getpid())
		if err != nil {
			b.Fatal(err)
		}
		if a.read(fs, p, &of, false, 1) == nil {
			b.Fatal("nothing was read")
		}
		if err = p.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
