package procmaps

import (
	"errors"
	"fmt"
)

var (
	// ErrParse is matched by every error about text that does not have the
	// form the kernel gives it.
	ErrParse = errors.New("malformed text")

	// ErrGone says that the process has ended. A process hidden by the mount
	// option hidepid cannot be told from one that has ended.
	ErrGone = errors.New("no such process")

	// ErrNoMemory says that there is no address space, or no longer the one
	// that was opened: the process has ended, has executed another program, or
	// is a kernel thread. Opening it again tells which.
	ErrNoMemory = errors.New("no address space")
)

// ParseError says which line of which file was malformed. It matches [ErrParse].
type ParseError struct {
	File   string // as given to the parser
	Line   int    // from 1
	Text   string // the line without its newline, cut after 200 bytes
	Reason string
}

// Error quotes the line, so that it is safe to print.
func (e *ParseError) Error() string {
	return fmt.Sprintf("parse %s line %d: %s: %q", e.File, e.Line, e.Reason, e.Text)
}

// Is reports whether target is ErrParse.
func (e *ParseError) Is(target error) bool { return target == ErrParse }

func parseError(file string, line int, text []byte, reason string) *ParseError {
	return &ParseError{File: file, Line: line, Text: string(text[:min(len(text), 200)]), Reason: reason}
}
