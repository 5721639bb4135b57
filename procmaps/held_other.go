//go:build !linux

package procmaps

import (
	"errors"
	"fmt"
)

// HeldMemory is supported on Linux only; the error matches [errors.ErrUnsupported].
func (p *Process) HeldMemory(int) (held []Held, all bool, err error) {
	return nil, false, fmt.Errorf("list the memory that descriptors hold: %w", errors.ErrUnsupported)
}
