package model

import "strconv"

// Process is one traced process. The model owns it.
type Process struct {
	PID        int
	Inner      int    // its number in its own pid namespace, where that is another; else 0
	Parent     int    // 0 if it was there when tracing began
	Comm       string // of its newest image
	Space      uint64
	StartTime  uint64 // CLOCK_BOOTTIME, ns
	Generation int    // how many images it has had since tracing began
	Exited     bool
	Status     uint32 // wait status, when Exited
	NoStatus   bool   // it is not known
}

// ExitText says in a word how an exited process ended.
func (p *Process) ExitText() string {
	if p.NoStatus {
		return "status not seen"
	}
	if sig := p.Status & 0x7f; sig != 0 {
		return "signal " + strconv.Itoa(int(sig))
	}
	return "status " + strconv.Itoa(int(p.Status>>8&0xff))
}
