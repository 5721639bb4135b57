//go:build amd64 || arm64

package bpf

import "github.com/cilium/ebpf"

// ProgramID tells tests which of the kernel's programs is ours.
func (h *Hooks) ProgramID() (ebpf.ProgramID, error) {
	info, err := h.coll.Programs[mmProgMmSysExit].Info()
	if err != nil {
		return 0, err
	}
	id, _ := info.ID()
	return id, nil
}
