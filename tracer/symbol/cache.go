package symbol

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/internal/quota"
	"github.com/maptrace/maptrace/tracer/internal/regular"
)

// ErrReplaced is matched by the error about a file that is no longer the one that
// was mapped, and cannot be reached any more.
var ErrReplaced = errors.New("replaced since it was mapped")

// ID tells files apart: two modules with the same ID have the same names. It is
// comparable.
type ID struct {
	Dev, Inode uint64 // as stat has them; 0 for the vdso
	Size       int64  // bytes
	ModTime    int64  // nanoseconds since 1970
	BuildID    string
}

// CacheOptions bound what a cache holds.
type CacheOptions struct {
	// MaxBytes limits what all modules together have loaded, with the maps of JIT
	// compilers, which have up to half of it: modules not asked for the longest drop
	// what they have, and load it again when they are asked. One module may go
	// beyond it alone. 0 stands for 256 MiB.
	MaxBytes int64
	// MaxModules limits the modules, each of which holds one or two files open:
	// beyond it the one not asked for the longest is closed, and has no names for
	// those who still hold it. 0 stands for 1024.
	MaxModules int
	// MaxDWARF is as in Options, but never more than MaxBytes.
	MaxDWARF int64
	// Reads pay for what is read: the account of the process that has mapped a file
	// first, and when that has nothing left those of others. Nil pays for everything.
	Reads *quota.Run

	noDebugFiles bool // of tests: do not search for them
}

// Cache holds the modules of all processes: most share a few. It is safe for
// concurrent use.
type Cache struct {
	opts  CacheOptions
	total atomic.Int64 // bytes that the modules and perfMaps hold
	clock atomic.Int64

	perfMaps perfMaps

	mu      sync.Mutex
	modules map[ID]*Module
	files   map[fileKey]*Module
	failed  map[failKey]failure
}

// fileKey is a file as maps has it. While a module holds the file open, its inode
// number is not given to another.
type fileKey struct {
	dev   procmaps.Device
	inode uint64
}

type failKey struct {
	pid int
	procmaps.Range
	fileKey
}

// failure is remembered for a while: the process may gain a name, or we a right.
type failure struct {
	err   error
	until time.Time
}

const (
	defaultMaxBytes   = 256 << 20
	defaultMaxModules = 1024
	maxFailures       = 1 << 14
	failureLife       = 10 * time.Second
)

// NewCache returns an empty cache.
func NewCache(o CacheOptions) *Cache {
	if o.MaxBytes <= 0 {
		o.MaxBytes = defaultMaxBytes
	}
	if o.MaxModules <= 0 {
		o.MaxModules = defaultMaxModules
	}
	if o.MaxDWARF <= 0 {
		o.MaxDWARF = defaultMaxDWARF
	}
	o.MaxDWARF = min(o.MaxDWARF, o.MaxBytes)
	c := &Cache{
		opts: o, modules: make(map[ID]*Module), files: make(map[fileKey]*Module),
		failed: make(map[failKey]failure),
	}
	c.perfMaps = perfMaps{most: o.MaxBytes / 2, held: make(map[*PerfFile]int64), grown: func(bytes int64) {
		c.total.Add(bytes)
		c.shrink(nil)
	}}
	return c
}

// Bytes returns how many bytes the modules' tables and the maps of JIT compilers take.
func (c *Cache) Bytes() int64 { return c.total.Load() }

// Module returns the module that a process has mapped: a file, or the vdso. The
// mapping is a row of the process' maps. It asks the file itself, not its name,
// so a file that was replaced or deleted meanwhile is read as it was mapped or
// refused. Errors are remembered for some seconds.
func (c *Cache) Module(pid int, m *procmaps.Mapping) (*Module, error) {
	key := fileKey{m.Dev, m.Inode}
	fail := failKey{pid, m.Range, key}
	account := c.opts.Reads.Of("process", pid)
	c.mu.Lock()
	if mod := c.files[key]; mod != nil && m.Inode != 0 {
		if mod.unchanged() {
			mod.Charge(account)
			c.touch(mod)
			c.mu.Unlock()
			return mod, nil
		}
		c.remove(mod)
	}
	if f, ok := c.failed[fail]; ok && time.Now().Before(f.until) {
		c.mu.Unlock()
		return nil, f.err
	}
	c.mu.Unlock()

	mod, exact, err := c.open(pid, m, account)

	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		if len(c.failed) >= maxFailures {
			clear(c.failed)
		}
		c.failed[fail] = failure{err, time.Now().Add(failureLife)}
		return nil, err
	}
	if known := c.modules[mod.id]; known != nil {
		if err := mod.Close(); err != nil {
			return nil, fmt.Errorf("close module: %w", err)
		}
		mod = known
		mod.Charge(account)
	} else {
		c.makeRoom()
		c.modules[mod.id] = mod
		mod.cache = c
	}
	// On some file systems, as btrfs, maps shows one device for what stat says
	// are several: then its numbers do not identify a file.
	if exact {
		c.files[key] = mod
	}
	c.touch(mod)
	return mod, nil
}

// open opens the file of a mapping. It reports whether the mapping's device and
// inode number identify it.
func (c *Cache) open(pid int, m *procmaps.Mapping, account *quota.Account) (mod *Module, exact bool, err error) {
	if m.Name == "[vdso]" {
		mod, err = OpenVDSO(pid, m.Range)
		return mod, false, err
	}
	f, err := openPaid(pid, m, account)
	if err != nil {
		return nil, false, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, false, fmt.Errorf("open mapped file: %w", err)
	}
	const most = 4 // tables that are as large as can be at the same time
	o := Options{MaxDWARF: c.opts.MaxDWARF, MaxTable: c.opts.MaxBytes / most, Account: account}
	if !c.opts.noDebugFiles {
		o.Debug = debugFiles(pid, m.Path())
	}
	mod, err = ReadModule(f, info.Size(), o)
	if err != nil {
		f.Close()
		return nil, false, fmt.Errorf("read %q of process %d: %w", m.Name, pid, err)
	}
	mod.closer, mod.file = f, f
	mod.id = fileID(info)
	mod.id.BuildID = mod.buildID
	return mod, sameFile(info, m), nil
}

// openPaid opens a file, which takes time, too.
func openPaid(pid int, m *procmaps.Mapping, account *quota.Account) (*regular.File, error) {
	op := account.Start()
	defer op.End()
	if err := op.Take(0); err != nil {
		return nil, fmt.Errorf("open %q of process %d: %w", m.Name, pid, err)
	}
	return OpenMapped(pid, m)
}

// unchanged reports whether the file is as it was when it was opened: somebody
// may have written into it.
func (m *Module) unchanged() bool {
	if m.file == nil {
		return true
	}
	info, err := m.file.Stat()
	return err == nil && info.Size() == m.id.Size && info.ModTime().UnixNano() == m.id.ModTime
}

// ID returns the identity of a module from a cache.
func (m *Module) ID() ID { return m.id }

func (c *Cache) touch(m *Module) { m.used.Store(c.clock.Add(1)) }

// makeRoom closes modules until there is room for one more.
func (c *Cache) makeRoom() {
	for len(c.modules) >= c.opts.MaxModules {
		if m := c.oldest(func(*Module) bool { return true }); m != nil {
			c.remove(m)
		}
	}
}

// remove forgets a module and closes it.
func (c *Cache) remove(m *Module) {
	delete(c.modules, m.id)
	for key, other := range c.files {
		if other == m {
			delete(c.files, key)
		}
	}
	_ = m.Close() // it was only read
	c.count(m)
}

// oldest returns the module asked for the longest ago, of those that pass.
func (c *Cache) oldest(pass func(*Module) bool) *Module {
	var found *Module
	for _, m := range c.modules {
		if pass(m) && (found == nil || m.used.Load() < found.used.Load()) {
			found = m
		}
	}
	return found
}

// count brings the sum up to date with what a module holds now.
func (c *Cache) count(m *Module) {
	now := m.bytes.Load()
	c.total.Add(now - m.counted.Swap(now))
}

// settle is called after a module may have loaded something, without its lock:
// a module's lock is only taken under the cache's, never the other way round.
func (c *Cache) settle(m *Module) {
	c.touch(m)
	c.count(m)
	c.shrink(m)
}

// shrink has modules but for one drop what they hold, if all together hold too much.
func (c *Cache) shrink(but *Module) {
	if c.total.Load() <= c.opts.MaxBytes {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.total.Load() > c.opts.MaxBytes {
		old := c.oldest(func(o *Module) bool { return o != but && o.bytes.Load() > 0 })
		if old == nil {
			return
		}
		old.mu.Lock()
		old.drop()
		old.mu.Unlock()
		c.count(old)
	}
}

// expect makes room before a module, whose lock is held, takes so many bytes at once, so
// that not both what is dropped and what comes is in memory. It waits for no lock, as the
// order of locks is the other way round: [Cache.settle] does what is left to do.
func (c *Cache) expect(m *Module, bytes int64) {
	const large = 64 << 20 // worth a collection of garbage
	if !c.mu.TryLock() {
		return
	}
	defer c.mu.Unlock()
	var dropped int64
	for c.total.Load()+bytes > c.opts.MaxBytes {
		old := c.oldest(func(o *Module) bool { return o != m && o.bytes.Load() > 0 })
		if old == nil || !old.mu.TryLock() {
			break
		}
		dropped += old.bytes.Load()
		old.drop()
		old.mu.Unlock()
		c.count(old)
	}
	if dropped >= large {
		runtime.GC()
	}
}

// Close closes all modules.
func (c *Cache) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	for _, m := range c.modules {
		errs = append(errs, m.Close())
		c.count(m)
	}
	clear(c.modules)
	clear(c.files)
	return errors.Join(errs...)
}

// moduleFile is what the cache keeps about a module.
type moduleFile struct {
	file    *regular.File // to see whether it changes; nil for the vdso
	id      ID
	counted atomic.Int64 // what of bytes the cache has counted
}
