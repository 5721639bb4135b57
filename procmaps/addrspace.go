package procmaps

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
)

// AddressSpace is the memory that a process had when it was opened. It stands
// for that and not for the process: once the process has ended or executes
// another program, which look the same, it is no more. It holds one file
// descriptor and is not safe for concurrent use.
type AddressSpace struct {
	f    *os.File
	name string
}

// OpenAddressSpace opens the address space of the process, or that of a thread
// which outlives its leader. The error matches [ErrNoMemory] when it has none, and
// [fs.ErrPermission] when the reader may not trace the process. The caller must
// Close the result.
func (p *Process) OpenAddressSpace() (*AddressSpace, error) {
	a, err := p.openAddressSpace(".")
	if !errors.Is(err, ErrNoMemory) {
		return a, err
	}
	if p.anyThread(func(dir string) bool {
		var e error
		a, e = p.openAddressSpace(dir)
		return e == nil
	}) {
		return a, nil
	}
	if p.gone() {
		err = fmt.Errorf("read %s: %w", p.file("maps"), ErrGone)
	}
	return nil, err
}

func (p *Process) openAddressSpace(dir string) (*AddressSpace, error) {
	name := filepath.Join(dir, "maps")
	f, err := p.openMemory(dir, "maps")
	if err != nil {
		return nil, err
	}
	a := &AddressSpace{f: f, name: p.file(name)}
	if empty(f) {
		_ = f.Close() // it was only read
		return nil, a.noMemory()
	}
	return a, nil
}

func (a *AddressSpace) noMemory() error { return fmt.Errorf("read %s: %w", a.name, ErrNoMemory) }

// Maps reads the mappings, in address order, into the space of dst, and under
// the rules of [Process.Maps]. The error matches [ErrNoMemory] once the address
// space is no more.
func (a *AddressSpace) Maps(dst []Mapping) ([]Mapping, error) {
	if _, err := a.f.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("read %s: %w", a.name, err)
	}
	parser := mapsParser{mend: true}
	rows, err := parser.all(newLines(a.f, a.name), dst[:0])
	// The kernel ends the text early and without an error when the address space
	// goes while it is read; cut within a row it does not parse.
	switch {
	case empty(a.f), errors.Is(err, syscall.ESRCH), err == nil && len(rows) == 0:
		return nil, a.noMemory()
	case err != nil && !errors.Is(err, ErrParse):
		return nil, fmt.Errorf("read %s: %w", a.name, err)
	}
	return rows, err
}

// Close releases the descriptor.
func (a *AddressSpace) Close() error { return a.f.Close() }
