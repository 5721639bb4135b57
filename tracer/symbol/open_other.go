//go:build !linux

package symbol

import (
	"errors"
	"fmt"
	"iter"
	"os"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/internal/regular"
)

// OpenMapped opens the file behind a row of a process' maps. Only Linux has it.
func OpenMapped(pid int, m *procmaps.Mapping) (*regular.File, error) {
	return nil, fmt.Errorf("open mapped file %q of process %d: %w", m.Name, pid, errors.ErrUnsupported)
}

// OpenBuild opens a file that has a build ID. Only Linux has it.
func OpenBuild(name, _ string) (*Module, error) {
	return nil, fmt.Errorf("open %q: %w", name, errors.ErrUnsupported)
}

// OpenVDSO copies the code that the kernel maps into every process. Only Linux
// has it.
func OpenVDSO(pid int, _ procmaps.Range) (*Module, error) {
	return nil, fmt.Errorf("read vdso of process %d: %w", pid, errors.ErrUnsupported)
}

// PerfFile is the map of one process' JIT compiler. Only Linux has it.
type PerfFile struct{}

// PerfFile returns a map without names.
func (c *Cache) PerfFile(int) *PerfFile { return &PerfFile{} }

func (p *PerfFile) closeEnded() {}

// Found reports that there is none.
func (p *PerfFile) Found() bool { return false }

// Lookup finds nothing.
func (p *PerfFile) Lookup(uint64) (name string, start, size uint64, ok bool) { return "", 0, 0, false }

// Err returns nil.
func (p *PerfFile) Err() error { return nil }

// Close does nothing.
func (p *PerfFile) Close() error { return nil }

// Path returns "". Only Linux has it.
func (m *Module) Path() string { return "" }

func sameFile(os.FileInfo, *procmaps.Mapping) bool { return false }

func fileID(info os.FileInfo) ID {
	return ID{Size: info.Size(), ModTime: info.ModTime().UnixNano()}
}

func debugFiles(int, string) func(DebugRef) iter.Seq[*regular.File] { return nil }
