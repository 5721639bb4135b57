//go:build amd64 || arm64

package bpf

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
)

// ErrEmpty is returned by Hooks.Next and its like when every record sent so far was
// read.
var ErrEmpty = errors.New("ring is empty")

// past is a deadline that makes a reader look and not wait.
var past = time.Unix(1, 0)

// ring is a ring buffer that is read. The zero value is one that was not asked for: it
// is empty. One goroutine may read at a time.
type ring struct {
	name   string // for errors
	reader *ringbuf.Reader
	record ringbuf.Record
}

func openRing(m *ebpf.Map, name string) (ring, error) {
	r, err := ringbuf.NewReader(m)
	if err != nil {
		return ring{}, fmt.Errorf("open %s: %w", name, err)
	}
	return ring{name: name, reader: r}, nil
}

// next reads the next record. It never waits: ErrEmpty says that all was read. The bytes
// are overwritten by the next call.
func (r *ring) next() ([]byte, error) {
	if r.reader == nil {
		return nil, ErrEmpty
	}
	r.reader.SetDeadline(past)
	switch err := r.reader.ReadInto(&r.record); {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, ErrEmpty
	case err != nil:
		return nil, fmt.Errorf("read %s: %w", r.name, err)
	}
	return r.record.RawSample, nil
}

// close may be called more than once.
func (r *ring) close() error {
	if r.reader == nil {
		return nil
	}
	err := r.reader.Close()
	r.reader = nil
	return err
}
