package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// What a file that is made may be used for, less what umask(2) takes away. Profiles show
// what is inside of a process, so they are for their owner alone.
const (
	forAll   os.FileMode = 0o666
	forOwner os.FileMode = 0o600
)

// mostLinks is how many symbolic links in a row are followed, as the kernel has it.
const mostLinks = 40

// createFile opens a file that the user named for writing, and makes it if it is not there.
// Flags are more flags of open(2). Where the last element of the name is a symbolic link
// it is followed if it is ours or root's, as /dev/stdout and /proc/self/fd/1 are: in /tmp
// others may put one where a file is expected, to have what they may not write to
// overwritten. That is the rule of fs.protected_symlinks, but in every directory and
// however that is set. So are fs.protected_regular and fs.protected_fifos: what others have
// put where anybody may is not written to, for it would be theirs to read. Devices and
// terminals are written to as they are.
func createFile(name string, flags int, perm os.FileMode) (*os.File, error) {
	at := name
	for range mostLinks {
		l, err := linkAt(at)
		switch {
		case err != nil:
			return nil, fmt.Errorf("open %s: %w", name, err)
		case l == nil: // and if one takes its place meanwhile, it is not followed
			if err := planted(at); err != nil {
				return nil, fmt.Errorf("open %s: %w", name, err)
			}
			return os.OpenFile(at, flags|os.O_WRONLY|os.O_CREATE|unix.O_NOFOLLOW, perm)
		case l.owner != 0 && int(l.owner) != os.Geteuid():
			return nil, fmt.Errorf("open %s: it is a symbolic link of another user (%d), which is not followed: name the file itself", name, l.owner)
		case l.proc:
			return os.OpenFile(at, flags|os.O_WRONLY, perm)
		}
		if at = l.target; !filepath.IsAbs(at) {
			at = l.dir + at
		}
	}
	return nil, &os.PathError{Op: "open", Path: name, Err: unix.ELOOP}
}

// planted refuses a regular file or a FIFO of another user in a sticky directory where
// others may make files, unless the directory is his.
func planted(name string) error {
	var st, dir unix.Stat_t
	// If there is none, or it cannot be looked at, what opens it says so.
	_ = unix.Lstat(name, &st)
	_ = unix.Stat(filepath.Dir(name), &dir)
	kind := st.Mode & unix.S_IFMT
	shared := dir.Mode&unix.S_ISVTX != 0 && dir.Mode&0o022 != 0
	if !shared || kind != unix.S_IFREG && kind != unix.S_IFIFO || int(st.Uid) == os.Geteuid() || st.Uid == dir.Uid {
		return nil
	}
	return fmt.Errorf("it is a file of another user (%d) in a directory where anybody may make files: name another", st.Uid)
}

// symlink is a symbolic link.
type symlink struct {
	owner  uint32
	dir    string // up to the last slash of its name: its elements may be links, so ".." is the kernel's to follow
	target string
	proc   bool // the kernel made it, and it leads to what need not have a name
}

// linkAt looks at a symbolic link; nil if there is none, or nothing at all.
func linkAt(name string) (*symlink, error) {
	fd, err := unix.Open(name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil // what opens the file says it better
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFLNK {
		return nil, err
	}
	var fs unix.Statfs_t
	if err = unix.Fstatfs(fd, &fs); err != nil {
		return nil, err
	}
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", buf)
	if err != nil {
		return nil, err
	}
	return &symlink{st.Uid, name[:strings.LastIndexByte(name, '/')+1], string(buf[:n]), fs.Type == unix.PROC_SUPER_MAGIC}, nil
}

// createText makes a file and writes it.
func createText(name, text string) error {
	f, err := createFile(name, os.O_TRUNC, forAll)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// output is a file to be written at the end, opened at the start: what is wrong
// with it is known before an hour has passed, and it needs no privilege then. Until
// it is written to, what it held stays.
type output struct {
	*os.File
	made, written bool
}

// openOutput opens a file, and nothing if it has no name.
func openOutput(name string) (*output, error) {
	if name == "" {
		return nil, nil
	}
	o := &output{made: true}
	var err error
	o.File, err = createFile(name, os.O_EXCL, forOwner)
	if errors.Is(err, os.ErrExist) {
		o.made = false
		o.File, err = createFile(name, 0, forOwner)
	}
	if err != nil {
		return nil, err
	}
	return o, nil
}

// begin takes away what the file held.
func (o *output) begin() error {
	o.written = true
	info, err := o.Stat()
	if err == nil && info.Mode().IsRegular() {
		err = o.Truncate(0)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", o.Name(), err)
	}
	return nil
}

// close closes it. If it came to nothing it leaves nothing behind.
func (o *output) close() error {
	if o == nil {
		return nil
	}
	err := o.Close()
	if o.made && !o.written {
		_ = os.Remove(o.Name()) // we may not be allowed to any more
	}
	return err
}

// writeOutput writes a file, if one was asked for.
func writeOutput(o *output, write func(io.Writer) error) error {
	if o == nil {
		return nil
	}
	if err := o.begin(); err != nil {
		return err
	}
	return write(o)
}
