//go:build !linux

package procmaps

import (
	"errors"
	"fmt"
	"os"
)

type querier struct{}

func newQuerier(*os.File) querier { return querier{} }

func (querier) next(uint64, *Mapping) (bool, error) { return false, errNoQuery }

func (querier) close() {}

// ShmDevice is supported on Linux only; the error matches [errors.ErrUnsupported].
func ShmDevice() (Device, error) {
	return Device{}, fmt.Errorf("find the shared memory device: %w", errors.ErrUnsupported)
}
