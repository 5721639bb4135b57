package tracer

import (
	"errors"

	"github.com/maptrace/maptrace/bpf"
	"github.com/maptrace/maptrace/tracer/await"
)

// LiveOptions say what the kernel is asked for. The zero value is usable.
type LiveOptions struct {
	RingBytes int  // size of the ring of records; 0 means bpf.DefaultRingBytes
	NoFollow  bool // leave the children of traced processes alone
	// Stacks asks for the stacks of what makes memory larger; nil for none.
	Stacks *StackOptions
	// Latency asks for how long calls take; nil for nothing.
	Latency *LatencyOptions
	// Calls bounds the waiting for what processes can delay; nil sets no bounds.
	Calls *await.Calls
}

// StackOptions say which stacks the kernel side is asked for.
type StackOptions = bpf.StackOptions

// LatencyOptions say what it is asked to measure of calls.
type LatencyOptions = bpf.LatencyOptions

// ErrArchitecture is what OpenLive returns on a machine that there are no programs for.
var ErrArchitecture = bpf.ErrArchitecture

// ErrForeignClock is what OpenLive returns where the kernel's clock cannot be compared with
// that of this process.
var ErrForeignClock = bpf.ErrForeignClock

// What that is unless told otherwise.
const (
	DefaultStackRate = bpf.DefaultStackRate
	MaxStackBytes    = bpf.MaxStackBytes
	DefaultSlow      = bpf.DefaultSlow
)

// ErrPermission marks a refusal of the kernel side for lack of permission.
var ErrPermission = errors.New("the kernel does not let us load BPF programs")
