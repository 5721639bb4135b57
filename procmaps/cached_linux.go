package procmaps

import (
	"errors"
	"io"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// CachedFiles lists the files on local file systems that the process has open, with what of
// them is in the page cache (cachestat(2), 6.5+). It looks at most descriptors. Each is copied
// for a moment (pidfd_getfd(2), 5.6+), for which the reader must be allowed to attach to the
// process; no file is opened, and none of another file system is touched.
func (p *Process) CachedFiles(most int) ([]CachedFile, error) {
	d, err := p.root.Open("fd")
	if err != nil {
		return nil, p.fail("fd", err)
	}
	defer d.Close()
	names, err := d.Readdirnames(most)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, p.fail("fd", err)
	}
	text, err := p.read("mountinfo")
	if err != nil {
		return nil, err
	}
	mounts, err := parseMounts(text, p.file("mountinfo"), local)
	if err != nil {
		return nil, err
	}
	pidfd, err := unix.PidfdOpen(p.pid, 0)
	if err != nil {
		return nil, p.fail("pidfd_open", err)
	}
	defer unix.Close(pidfd)
	var files []CachedFile
	for _, name := range names {
		path := linkOf(d, name)
		number, err := strconv.Atoi(name)
		if err != nil || !strings.HasPrefix(path, "/") || !mounts[mountOf(p.fdinfo(name))] {
			continue
		}
		st, there := statOf(d, name)
		if !there || st.Mode&unix.S_IFMT != unix.S_IFREG {
			continue
		}
		var cache unix.Cachestat_t
		err = cachestat(pidfd, number, &cache)
		if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) {
			return nil, p.fail("cachestat", err)
		}
		if err != nil {
			continue // it is closed by now, or cannot be asked (O_PATH)
		}
		page := uint64(unix.Getpagesize())
		files = append(files, CachedFile{
			FileID: FileID{deviceOf(&st), st.Ino}, Path: path,
			Bytes: cache.Cache * page, Dirty: (cache.Dirty + cache.Writeback) * page,
		})
	}
	return MergeCached(files), nil
}

// cachestat asks for what of a file is in the page cache that a process has open.
func cachestat(pidfd, number int, cache *unix.Cachestat_t) error {
	fd, err := unix.PidfdGetfd(pidfd, number, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Cachestat(uint(fd), &unix.CachestatRange{}, cache, 0)
}
