package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

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
		case l == nil:
			f, err := createPlain(at, flags, perm)
			if errors.Is(err, errPlanted) {
				err = fmt.Errorf("open %s: %w", name, err)
			}
			return f, err
		case l.owner != 0 && int(l.owner) != os.Geteuid():
			return nil, fmt.Errorf("open %s: it is a symbolic link of another user (%d), which is not followed: name the file itself", name, l.owner)
		case l.proc:
			return os.OpenFile(at, flags|os.O_WRONLY, perm)
		}
		if filepath.IsAbs(l.target) {
			at = l.target
		} else {
			at = directory(at) + l.target
		}
	}
	return nil, &os.PathError{Op: "open", Path: name, Err: unix.ELOOP}
}

// createPlain is createFile of what is no symbolic link. If one takes its place meanwhile it
// is not followed.
func createPlain(name string, flags int, perm os.FileMode) (*os.File, error) {
	// To open a FIFO would wait. If there is nothing, what opens it says so.
	if info, err := os.Lstat(name); err == nil {
		if err = planted(name, info); err != nil {
			return nil, err
		}
	}
	f, err := os.OpenFile(name, flags|os.O_WRONLY|os.O_CREATE|unix.O_NOFOLLOW, perm)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat() // it may have been put there since
	if err == nil {
		err = planted(name, info)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

var errPlanted = errors.New("it is a file of another user")

// planted refuses a regular file or a FIFO of another user in a sticky directory where
// others may make files, unless the directory is his.
func planted(name string, info os.FileInfo) error {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.Mode().IsRegular() && info.Mode()&os.ModeNamedPipe == 0 || int(st.Uid) == os.Geteuid() {
		return nil
	}
	var dir unix.Stat_t
	if err := unix.Stat(directory(name)+".", &dir); err != nil {
		return &os.PathError{Op: "stat", Path: directory(name) + ".", Err: err}
	}
	if shared := dir.Mode&unix.S_ISVTX != 0 && dir.Mode&0o022 != 0; !shared || st.Uid == dir.Uid {
		return nil
	}
	return fmt.Errorf("%w (%d) in a directory where anybody may make files: name another", errPlanted, st.Uid)
}

// directory is a name up to its last slash. Its elements may be links, so ".." is the
// kernel's to follow.
func directory(name string) string { return name[:strings.LastIndexByte(name, '/')+1] }

// symlink is a symbolic link.
type symlink struct {
	owner  uint32
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
	return &symlink{st.Uid, string(buf[:n]), fs.Type == unix.PROC_SUPER_MAGIC}, nil
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
