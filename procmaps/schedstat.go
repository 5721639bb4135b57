package procmaps

import (
	"path/filepath"
	"strconv"
	"strings"
)

// Switches is how often the threads of the process that are there have begun to run on a
// CPU: the sum of the third numbers of /proc/PID/task/TID/schedstat (Documentation/
// scheduler/sched-stats.rst). It is 0 on kernels without CONFIG_SCHED_INFO.
func (p *Process) Switches() (uint64, error) {
	tids, err := p.Threads()
	if err != nil {
		return 0, err
	}
	var sum uint64
	for _, tid := range tids {
		data, err := p.read(filepath.Join("task", strconv.Itoa(tid), "schedstat"))
		if err != nil {
			continue // it has ended, or the kernel does not count
		}
		sum += parseSchedstat(data)
	}
	return sum, nil
}

// parseSchedstat returns the last of three numbers, 0 if they are none.
func parseSchedstat(data []byte) uint64 {
	words := strings.Fields(string(data))
	if len(words) != 3 {
		return 0
	}
	n, err := strconv.ParseUint(words[2], 10, 64)
	if err != nil {
		return 0
	}
	return n
}
