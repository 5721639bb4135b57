package site

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"syscall"
	"testing"

	"github.com/maptrace/maptrace/tracer/await"
	"github.com/maptrace/maptrace/tracer/internal/quota"
	"github.com/maptrace/maptrace/tracer/internal/regular"
	"github.com/maptrace/maptrace/tracer/stack"
	"github.com/maptrace/maptrace/tracer/symbol"
)

// What is known of a file that was not read is why, and not how its code keeps frames.
func TestOnlyCodeOfAnotherFormatIsWalkedByFramePointers(t *testing.T) {
	t.Parallel()
	s := New(Options{})
	defer s.Close()
	for _, err := range []error{
		fs.ErrNotExist, fs.ErrPermission, symbol.ErrReplaced, symbol.ErrTooLarge, quota.ErrSpent, await.ErrStalled, regular.ErrNot,
		syscall.ESRCH, syscall.EIO, syscall.EMFILE, io.EOF, errors.New("read ELF header: malformed"),
	} {
		if got := (&Module{Err: fmt.Errorf("x: %w", err)}).rule(s, 0x1000, 0x1000); got != stack.RuleNone {
			t.Errorf("%v: %v", err, got)
		}
	}
	if got := (&Module{Err: fmt.Errorf("x: %w", symbol.ErrNotELF)}).rule(s, 0x1000, 0x1000); got != stack.RuleFramePointer {
		t.Errorf("of another format: %v", got)
	}
}
