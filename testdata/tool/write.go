package tool

import (
	"os"
	"syscall"
)

// WriteProgram writes a file that is to be executed, readable and executable by everybody. While
// it is open for writing the process starts no other: that would have it open, too, until it
// executes its own program, and nobody may execute it meanwhile (ETXTBSY, golang.org/issue/22315).
func WriteProgram(path string, content []byte) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	return os.WriteFile(path, content, 0o755) //nolint:gosec // see above
}
