//go:build !linux

package procmaps

import (
	"errors"
	"fmt"
)

// CachedFiles is supported on Linux only; the error matches [errors.ErrUnsupported].
func (p *Process) CachedFiles(int) ([]CachedFile, error) {
	return nil, fmt.Errorf("ask for the page cache of files: %w", errors.ErrUnsupported)
}
