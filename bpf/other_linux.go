//go:build !amd64 && !arm64

package bpf

// Probe has nothing to try here.
func Probe() []Check {
	return []Check{{Name: "architecture", What: "the programs, which are made for each architecture", Err: ErrArchitecture}}
}
