package main

import (
	"context"
	"errors"
	"strconv"

	"github.com/maptrace/maptrace/cmd/maptrace/internal/privilege"
	"github.com/maptrace/maptrace/tracer"
)

// readerCommand is the hidden command that reads files for another process of ours; its
// argument is what that lets it keep.
const readerCommand = "read-files"

// startReader starts the process that reads the files of targets, with the capabilities
// that this takes.
func (a *attached) startReader() (err error) {
	have, err := privilege.Current()
	if err != nil {
		return err
	}
	keep := a.toRead(have.Permitted) & have.Permitted
	a.reader, err = tracer.StartReader(a.o.calls, keep.Numbers(), readerCommand, strconv.FormatUint(uint64(keep), 16))
	return err
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
