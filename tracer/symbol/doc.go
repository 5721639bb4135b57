// Package symbol names addresses: it finds the function, the source lines and
// the inlined calls behind a program counter of another process, from the ELF
// files the process has mapped, the debug files that belong to them, Go's own
// tables and the maps that JIT compilers write.
//
// Everything it reads was made by somebody else, and is often read as root. So
// sizes are bounded before memory is taken, sections are decompressed only up to
// limits, and what is malformed has no name: it is not an error. The parsers of
// DWARF, of symbol tables and of Go's tables are this package's own; debug/elf
// reads the headers after its input has been checked, and one place recovers
// from its panics, the demangler's and the decompressor's. Symbol tables that were
// refused for their size are reported: see [Module.Refused].
//
// A name is never that of the nearest symbol: a symbol names the bytes it covers.
// Where there is no name, the caller says module+offset.
package symbol
