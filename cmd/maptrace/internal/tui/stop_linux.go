package tui

import (
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sigaction is a struct sigaction of the kernel, which looks different on each architecture
// and is smaller everywhere. One of zeros is for the default action.
type sigaction [64]byte

// stopProcess does what SIGTSTP does to a process that does not catch it. What the runtime
// has set once for a signal it leaves, though nobody is notified any more (signal.Reset):
// then nothing happens. And SIGSTOP would stop a process for good that has no shell to
// continue it, as "ssh -t HOST maptrace" is, where SIGTSTP does nothing; there bubbletea's
// Suspend waits for ever, for a SIGCONT.
func stopProcess() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var usual, ours sigaction
	if !setAction(&usual, &ours) {
		return
	}
	defer setAction(&ours, nil)
	// A signal to this thread comes before the call is over.
	_ = unix.Tgkill(os.Getpid(), unix.Gettid(), unix.SIGTSTP)
}

// setAction sets what SIGTSTP does, and tells what it did before.
func setAction(to, was *sigaction) bool {
	const setSize = 8 // bytes of a sigset_t
	_, _, err := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(unix.SIGTSTP),
		uintptr(unsafe.Pointer(to)), uintptr(unsafe.Pointer(was)), setSize, 0, 0)
	return err == 0
}
