//go:build !linux

package regular

import (
	"errors"
	"os"
)

// Client is the process that opens and reads files for this one. Only Linux has it.
type Client struct{}

type remoteFile struct{ name string }

func (*Client) open(string, string, uint64) (*File, os.FileInfo, error) {
	return nil, nil, errors.ErrUnsupported
}

func (*Client) list(string, int) ([]string, error) { return nil, errors.ErrUnsupported }

func (*Client) ask(int, func() error) error { return errors.ErrUnsupported }

func (*remoteFile) ReadAt([]byte, int64) (int, error) { return 0, errors.ErrUnsupported }
func (*remoteFile) stat() (os.FileInfo, error)        { return nil, errors.ErrUnsupported }
func (*remoteFile) path() (string, error)             { return "", errors.ErrUnsupported }
func (*remoteFile) kind() (int64, error)              { return 0, errors.ErrUnsupported }
func (*remoteFile) close() error                      { return errors.ErrUnsupported }

func listHere(string, int) ([]string, error) { return nil, errors.ErrUnsupported }

func kindOf(*os.File) (int64, error) { return 0, errors.ErrUnsupported }

func openHere(string, string, uint64) (*os.File, os.FileInfo, error) {
	return nil, nil, errors.ErrUnsupported
}
