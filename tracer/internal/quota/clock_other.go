//go:build !linux

package quota

import "time"

var start = time.Now()

// threadTime is the time that has passed: names of programs are only read on Linux.
func threadTime() time.Duration { return time.Since(start) }
