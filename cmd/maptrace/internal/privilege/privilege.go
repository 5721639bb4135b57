// Package privilege gives up capabilities that are no longer needed, for good.
//
// A process that has attached to the kernel reads what hostile programs write:
// names, ELF files, maps of JITs. What it can no longer do, nobody can make it do.
package privilege

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Set is a set of capabilities, a bit each, as in /proc/PID/status.
type Set uint64

// Of makes a set of capabilities by their numbers (unix.CAP_BPF).
func Of(caps ...int) Set {
	var s Set
	for _, c := range caps {
		s |= 1 << c
	}
	return s
}

// Has tells whether a capability is in the set.
func (s Set) Has(c int) bool { return s&(1<<c) != 0 }

// Numbers lists the capabilities of the set.
func (s Set) Numbers() []uintptr {
	var out []uintptr
	for c := range 64 {
		if s.Has(c) {
			out = append(out, uintptr(c))
		}
	}
	return out
}

// names are those of include/uapi/linux/capability.h, by number.
var names = [...]string{
	"chown", "dac_override", "dac_read_search", "fowner", "fsetid", "kill", "setgid", "setuid", "setpcap",
	"linux_immutable", "net_bind_service", "net_broadcast", "net_admin", "net_raw", "ipc_lock", "ipc_owner",
	"sys_module", "sys_rawio", "sys_chroot", "sys_ptrace", "sys_pacct", "sys_admin", "sys_boot", "sys_nice",
	"sys_resource", "sys_time", "sys_tty_config", "mknod", "lease", "audit_write", "audit_control", "setfcap",
	"mac_override", "mac_admin", "syslog", "wake_alarm", "block_suspend", "audit_read", "perfmon", "bpf",
	"checkpoint_restore",
}

// String is a list as capsh(1) writes it: "cap_bpf,cap_perfmon", or "none".
func (s Set) String() string {
	var out []string
	for c := range 64 {
		switch {
		case !s.Has(c):
		case c < len(names):
			out = append(out, "cap_"+names[c])
		default:
			out = append(out, strconv.Itoa(c))
		}
	}
	if len(out) == 0 {
		return "none"
	}
	return strings.Join(out, ",")
}

// State is what a thread may do.
type State struct {
	Effective, Permitted, Inheritable, Ambient, Bounding Set
	NoNewPrivs                                           bool
}

// Current is the state of the calling thread, which is that of all unless somebody
// has changed one alone.
func Current() (State, error) {
	text, err := os.ReadFile("/proc/thread-self/status")
	if err != nil {
		return State{}, fmt.Errorf("read capabilities: %w", err)
	}
	return Parse(string(text))
}

// StateOf is the state of a process' main thread.
func StateOf(pid int) (State, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return State{}, fmt.Errorf("read capabilities: %w", err)
	}
	return Parse(string(text))
}

// Parse reads the state from the text of a status file of /proc.
func Parse(status string) (State, error) {
	var s State
	sets := map[string]*Set{
		"CapEff": &s.Effective, "CapPrm": &s.Permitted, "CapInh": &s.Inheritable, "CapAmb": &s.Ambient, "CapBnd": &s.Bounding,
	}
	found := 0
	for line := range strings.Lines(status) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":\t")
		if set := sets[key]; set != nil {
			n, err := strconv.ParseUint(value, 16, 64)
			if err != nil {
				return State{}, fmt.Errorf("read capabilities: %s: %w", key, err)
			}
			*set = Set(n)
			found++
		}
		if key == "NoNewPrivs" {
			s.NoNewPrivs = value == "1"
		}
	}
	if found != len(sets) {
		return State{}, fmt.Errorf("read capabilities: %d of %d sets are there", found, len(sets))
	}
	return s, nil
}

// Keep gives up every capability but those in keep, on all threads, and has
// execve give none back: the sets that it takes from are emptied, and
// no_new_privs is set. It cannot be undone, and programs that are started
// afterwards have it so too.
//
// A program built with cgo cannot do it: the error matches
// [errors.ErrUnsupported], and nothing has changed. With any other error as much
// was given up as was possible.
func Keep(keep Set) error {
	if err := all(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1); err != nil {
		if errors.Is(err, unix.ENOTSUP) {
			return fmt.Errorf("give up capabilities: this program is built with cgo: %w", errors.ErrUnsupported)
		}
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	now, err := Current()
	if err != nil {
		return err
	}
	var errs []error
	if now.Ambient != 0 {
		if err := all(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL); err != nil {
			errs = append(errs, fmt.Errorf("clear ambient capabilities: %w", err))
		}
	}
	// Those without CAP_SETPCAP may not empty the bounding set; with no_new_privs
	// it has nothing to bound.
	if now.Effective.Has(unix.CAP_SETPCAP) {
		for c := range 64 {
			if !now.Bounding.Has(c) {
				continue
			}
			if err := all(unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, uintptr(c)); err != nil {
				errs = append(errs, fmt.Errorf("drop %s from the bounding set: %w", Of(c), err))
			}
		}
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3} // 0: the calling thread
	var data [2]unix.CapUserData
	permitted, effective := now.Permitted&keep, now.Effective&keep
	for i := range data {
		data[i].Permitted = uint32(permitted >> (32 * i))
		data[i].Effective = uint32(effective >> (32 * i))
	}
	if err := all(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&data[0]))); err != nil {
		errs = append(errs, fmt.Errorf("set capabilities: %w", err))
	}
	return errors.Join(errs...)
}

// all makes a system call on every thread.
//
//go:uintptrescapes
func all(nr uintptr, args ...uintptr) error {
	args = slices.Concat(args, make([]uintptr, 6-len(args)))
	_, _, errno := syscall.AllThreadsSyscall6(nr, args[0], args[1], args[2], args[3], args[4], args[5])
	if errno != 0 {
		return errno
	}
	return nil
}
