package main

import (
	"context"
	"errors"
	"strconv"

	"github.com/maptrace/maptrace/cmd/maptrace/internal/privilege"
	"github.com/maptrace/maptrace/tracer"
	"github.com/maptrace/maptrace/tracer/await"
)

// readerCommand is the hidden command that reads files for another process of ours; its
// argument is what that lets it keep.
const readerCommand = "read-files"

// startReader starts the process that reads files of others, with the capabilities that it
// is to keep.
func startReader(calls *await.Calls, keep privilege.Set) (*tracer.Reader, error) {
	return tracer.StartReader(calls, keep.Numbers(), readerCommand, strconv.FormatUint(uint64(keep), 16))
}

// runReader is that process.
func runReader(ctx context.Context, args []string) error {
	if len(args) != 1 {
		return errors.New("this is for maptrace itself")
	}
	keep, err := strconv.ParseUint(args[0], 16, 64)
	if err != nil {
		return err
	}
	if ctx.Value(ownProcess{}) != nil {
		_ = privilege.Keep(privilege.Set(keep)) // -v of the other process says what could not be given up
	}
	return tracer.ServeReads()
}
