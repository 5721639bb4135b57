// Package maptrace is the root of a live pmap: eBPF programs on the kernel's
// memory-mapping tracepoints stream every change of a process' address space
// to a Go program that keeps the region tree. The command is in cmd/maptrace;
// this file only says how the kernel side is generated. Building needs none of
// it: the objects are committed. See "make generate" for the compiler it wants.
package maptrace

//go:generate go tool bpf2go -go-package bpf -output-dir bpf -output-stem mm -tags linux -target amd64,arm64 mm bpf/maptrace.bpf.c -- -I./bpf/headers
