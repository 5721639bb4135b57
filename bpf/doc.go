// Package bpf is the kernel side of maptrace: the programs, and a small facade
// that loads them, attaches them and decodes what they send.
//
// The programs are BTF-typed raw tracepoints, which need neither tracefs nor
// kprobes and detach in about a millisecond. What each sends and why is told in
// maptrace.bpf.c; maptrace.h holds the records. The generated code and the
// objects are committed, so that building needs only Go.
//
// Minimum kernel: 5.15 with BTF for the programs to load (bpf_task_pt_regs);
// 6.1 for all of them to attach (mmap_lock_released). amd64 and arm64; elsewhere
// [Probe] says so, by [ErrArchitecture].
package bpf
