package symbol

import (
	"math/rand/v2"
	"os"
	"testing"
)

// benchFile is the largest program with a symbol table that is at hand.
func benchFile(b *testing.B) string {
	b.Helper()
	const file = "/usr/bin/node"
	if _, err := os.Stat(file); err != nil {
		b.Skip(err)
	}
	return file
}

func BenchmarkReadModule(b *testing.B) {
	file := benchFile(b)
	b.ReportAllocs()
	for b.Loop() {
		open(b, file)
	}
}

// The time until the first name, and what is held for it.
func BenchmarkLoadSymbols(b *testing.B) {
	m := open(b, benchFile(b))
	addr := m.head.code[len(m.head.code)/2].start
	b.ReportAllocs()
	for b.Loop() {
		m.mu.Lock()
		m.drop()
		m.mu.Unlock()
		m.Function(addr)
	}
	b.ReportMetric(float64(m.bytes.Load())/(1<<20), "MiB-held")
}

func randomAddresses(m *Module, n int) []uint64 {
	r := rand.New(rand.NewPCG(1, 2))
	text := m.head.section(".text")
	all := make([]uint64, n)
	for i := range all {
		all[i] = text.Addr + r.Uint64N(text.Size)
	}
	return all
}

func BenchmarkFunctionAgain(b *testing.B) {
	m := open(b, benchFile(b))
	addrs := randomAddresses(m, 512)
	for _, a := range addrs {
		m.Function(a)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		m.Function(addrs[i%len(addrs)])
	}
}

func BenchmarkFunctionFirst(b *testing.B) {
	m := open(b, benchFile(b))
	addrs := randomAddresses(m, 1<<16)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		m.Function(addrs[i%len(addrs)])
	}
}

// benchProgram compiles a program of Go, with the debug information of all of
// its packages.
func benchProgram(b *testing.B) *Module {
	b.Helper()
	m := open(b, buildGo(b, goProgram, []string{"CGO_ENABLED=0"}))
	if m.dwarf() == nil {
		b.Fatal("no debug information")
	}
	return m
}

func BenchmarkLinesAgain(b *testing.B) {
	m := benchProgram(b)
	addrs := randomAddresses(m, 512)
	var buf []Line
	for _, a := range addrs {
		buf = m.Lines(a, buf[:0])
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		buf = m.Lines(addrs[i%len(addrs)], buf[:0])
	}
	b.ReportMetric(float64(m.bytes.Load())/(1<<20), "MiB-held")
}

// The index of units and one unit.
func BenchmarkFirstLine(b *testing.B) {
	m := benchProgram(b)
	addrs := randomAddresses(m, 512)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		m.mu.Lock()
		m.drop()
		m.mu.Unlock()
		m.Lines(addrs[i%len(addrs)], nil)
	}
}
