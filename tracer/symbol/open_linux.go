package symbol

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/internal/regular"
)

// maxVDSO is far more than any kernel's vdso takes.
const maxVDSO = 1 << 20

// OpenMapped opens the file behind a row of a process' maps for reading.
//
// It goes through /proc/PID/map_files, which leads to the file itself even when
// it was replaced or deleted, and for memfds; that wants CAP_SYS_ADMIN or
// CAP_CHECKPOINT_RESTORE, and that the mapping is still as the row says. Then
// through the path in the process' root and /proc/PID/exe, where what is found
// must have the row's inode and device. On btrfs and overlayfs stat shows another
// device than maps: there the inode number has to do.
//
// Of a process that has ended, the path is tried in this process' root, where the
// same must hold; and of a path only the last element of which is known, the places
// where libraries usually are.
//
// Only regular files are opened, and symbolic links in the process' root cannot
// lead out of it. An error matches [ErrReplaced] when another file has the path.
// A file system that the process serves itself (FUSE) can make this call and later
// reads wait; the kernel lets root into those only if they were mounted for all.
func OpenMapped(pid int, m *procmaps.Mapping) (*regular.File, error) {
	if m.Inode == 0 {
		return nil, fmt.Errorf("open mapped file %q of process %d: no file is mapped", m.Name, pid)
	}
	f, errMap := openMapFile(pid, m)
	if errMap == nil {
		return f, nil
	}
	f, errPath := openByPath(pid, m)
	if errPath == nil {
		return f, nil
	}
	f, info, err := regular.Open("", fmt.Sprintf("/proc/%d/exe", pid), 0)
	if err == nil {
		if sameInode(f, info, m) {
			return f, nil
		}
		f.Close()
	}
	if f = openOfEnded(pid, m); f != nil {
		return f, nil
	}
	return nil, fmt.Errorf("open mapped file %q of process %d: %w (map_files: %w)", m.Name, pid, errPath, errMap)
}

// OpenBuild opens a file of this machine that has a build ID, in lower-case hex, as that of
// a process of which no more is known. An error matches [ErrReplaced] when another file has
// the path, and [ErrNotELF] when it is something else. The caller must Close the module.
func OpenBuild(name, buildID string) (*Module, error) {
	f, info, err := regular.Open("", name, 0)
	if err != nil {
		return nil, fmt.Errorf("open %q: %w", name, err)
	}
	m, err := ReadModule(f, info.Size(), Options{Debug: debugFiles(os.Getpid(), name)})
	if err == nil && m.buildID != buildID {
		err = ErrReplaced
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("read %q: %w", name, err)
	}
	m.closer, m.file = f, f
	return m, nil
}

func openMapFile(pid int, m *procmaps.Mapping) (*regular.File, error) {
	f, info, err := regular.Open("", fmt.Sprintf("/proc/%d/map_files/%x-%x", pid, m.Start, m.End), 0)
	if err != nil {
		return nil, err
	}
	if sameFile(info, m) {
		return f, nil
	}
	row := *m
	if err := regular.Ask(pid, func() error { return StillMapped(procmaps.Default(), pid, &row) }); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// openOfEnded opens the file of a process that has no root any more, nil if it
// cannot or the process has. The kernel side tells only the last element of a path;
// of a process that ends at once no more may be known, so such a file is looked for
// where libraries and programs usually are.
func openOfEnded(pid int, m *procmaps.Mapping) *regular.File {
	_, err := os.Readlink(fmt.Sprintf("/proc/%d/root", pid))
	if !errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if name := m.Path(); name != "" {
		f, info, err := regular.Open("/", name, 0)
		switch {
		case err != nil:
			return nil
		case !sameInode(f, info, m):
			f.Close()
			return nil
		}
		return f
	}
	name := m.Name
	if name == "" || name[0] == '[' || path.Base(name) != name {
		return nil
	}
	for _, dir := range usualPlaces {
		f, info, err := regular.Open("/", path.Join(dir, name), 0)
		if err != nil {
			continue
		}
		if sameFile(info, m) { // a guess must be confirmed in full
			return f
		}
		f.Close()
	}
	return nil
}

// usualPlaces are where distributions keep libraries (ld.so(8)) and programs.
var usualPlaces = []string{
	"/usr/lib/" + multiarch[runtime.GOARCH], "/usr/lib64", "/usr/lib", "/lib/" + multiarch[runtime.GOARCH], "/lib64", "/lib",
	"/usr/local/lib", "/usr/bin", "/bin", "/usr/local/bin", "/usr/sbin", "/sbin",
}

// multiarch is how Debian names the architectures in paths.
var multiarch = map[string]string{"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}

// StillMapped returns an error that matches [ErrReplaced] unless a process has the mapping m as
// it was: who opened a file by the mapping since, has opened that of m. Its inode cannot always
// tell that: maps may count inodes and devices otherwise than stat.
func StillMapped(fs procmaps.FS, pid int, m *procmaps.Mapping) error {
	p, err := fs.Process(pid)
	if err != nil {
		return err
	}
	defer p.Close()
	has, err := p.Has(m)
	if err == nil && !has {
		err = ErrReplaced
	}
	return err
}

func openByPath(pid int, m *procmaps.Mapping) (*regular.File, error) {
	name := m.Path()
	if name == "" {
		return nil, errors.New("it has no path")
	}
	f, info, err := regular.Open(fmt.Sprintf("/proc/%d/root", pid), name, 0)
	if err != nil {
		return nil, err
	}
	if !sameInode(f, info, m) {
		f.Close()
		return nil, ErrReplaced
	}
	return f, nil
}

// sameFile reports whether a file has the device and inode of a row of maps.
func sameFile(info os.FileInfo, m *procmaps.Mapping) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && st.Ino == m.Inode && unix.Major(st.Dev) == m.Dev.Major && unix.Minor(st.Dev) == m.Dev.Minor
}

// sameInode is sameFile where maps and stat agree about devices.
func sameInode(f *regular.File, info os.FileInfo, m *procmaps.Mapping) bool {
	if sameFile(info, m) {
		return true
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || st.Ino != m.Inode {
		return false
	}
	kind, err := f.Kind()
	return err == nil && (kind == unix.BTRFS_SUPER_MAGIC || kind == unix.OVERLAYFS_SUPER_MAGIC)
}

// Path returns the path of the module's file as this process sees it now, with
// " (deleted)" after it if it has none any more; "" for what is no open file.
func (m *Module) Path() string {
	if m.file == nil {
		return ""
	}
	name, err := m.file.Path()
	if err != nil {
		return ""
	}
	return name
}

func fileID(info os.FileInfo) ID {
	id := ID{Size: info.Size(), ModTime: info.ModTime().UnixNano()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		id.Dev, id.Inode = st.Dev, st.Ino
	}
	return id
}

// OpenVDSO copies the code that the kernel maps into every process, from the
// process' memory. It has symbols of its own.
func OpenVDSO(pid int, r procmaps.Range) (*Module, error) {
	if r.Empty() || r.Len() > maxVDSO {
		return nil, fmt.Errorf("read vdso of process %d: %d bytes", pid, r.Len())
	}
	f, _, err := regular.Open("", fmt.Sprintf("/proc/%d/mem", pid), 0)
	if err != nil {
		return nil, fmt.Errorf("read vdso: %w", err)
	}
	defer f.Close()
	b := make([]byte, r.Len())
	if _, err = f.ReadAt(b, int64(r.Start)); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read vdso: %w", err)
	}
	m, err := ReadModule(bytes.NewReader(b), int64(len(b)), Options{})
	if err != nil {
		return nil, fmt.Errorf("read vdso of process %d: %w", pid, err)
	}
	m.id = ID{Size: m.size, BuildID: m.buildID}
	return m, nil
}

// debugFiles looks where distributions put debug files: by build ID on this
// machine; by name next to the file, in .debug and under /usr/lib/debug, in the
// process' root and on this machine. What is found is checked by the module.
func debugFiles(pid int, file string) func(DebugRef) iter.Seq[*regular.File] {
	const debugDir = "/usr/lib/debug"
	return func(ref DebugRef) iter.Seq[*regular.File] {
		return func(yield func(*regular.File) bool) {
			try := func(root, name string) bool {
				f, _, err := regular.Open(root, name, 0)
				return err != nil || yield(f)
			}
			if _, err := hex.DecodeString(ref.BuildID); err == nil && len(ref.BuildID) > 2 {
				name := path.Join(debugDir, ".build-id", ref.BuildID[:2], ref.BuildID[2:]+".debug")
				if !try("/", name) {
					return
				}
			}
			if ref.Link == "" || file == "" {
				return
			}
			dir := path.Dir(file)
			for _, root := range []string{fmt.Sprintf("/proc/%d/root", pid), "/"} {
				for _, d := range []string{dir, path.Join(dir, ".debug"), path.Join(debugDir, dir)} {
					if !try(root, path.Join(d, ref.Link)) {
						return
					}
				}
			}
		}
	}
}
