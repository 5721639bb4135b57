package regular

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// mostPieces is how many pieces of memory are read at once.
const mostPieces = 1024 // UIO_MAXIOV of linux/uio.h

// Memory reads size bytes of a process' memory at each of some addresses, at most
// mostPieces, by process_vm_readv(2). Gone are the indices of those where not all of them
// are there. As a file's, its pages may be served by others: another process reads them if
// one was started ([Start]). Errors are those of the call but EFAULT, or match
// await.ErrStalled.
func Memory(pid int, addrs []uint64, size int) (data []byte, gone []int, err error) {
	if c := server.Load(); c != nil {
		return c.memory(pid, addrs, size)
	}
	return memoryHere(pid, addrs, size)
}

func memoryHere(pid int, addrs []uint64, size int) (data []byte, gone []int, err error) {
	if len(addrs) > mostPieces || size < 1 || size*len(addrs) > mostRead {
		return nil, nil, fmt.Errorf("read memory: %d pieces of %d bytes: %w", len(addrs), size, unix.EINVAL)
	}
	data = make([]byte, len(addrs)*size)
	for done := 0; done < len(addrs); {
		remote := make([]unix.RemoteIovec, 0, len(addrs)-done)
		for _, addr := range addrs[done:] {
			remote = append(remote, unix.RemoteIovec{Base: uintptr(addr), Len: size})
		}
		local := []unix.Iovec{{Base: &data[done*size]}}
		local[0].SetLen(len(remote) * size)
		n, err := unix.ProcessVMReadv(pid, local, remote, 0)
		if err != nil && err != unix.EFAULT {
			return nil, nil, fmt.Errorf("read memory of process %d: %w", pid, err)
		}
		// It stops at the first that is not there.
		if done += max(n, 0) / size; done < len(addrs) {
			clear(data[done*size : (done+1)*size])
			gone = append(gone, done)
			done++
		}
	}
	return data, gone, nil
}
