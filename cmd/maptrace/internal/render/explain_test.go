package render

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/explain"
)

// crashed is an address space with names that were chosen to do harm, and long ones.
func crashed(t *testing.T) *explain.Space {
	t.Helper()
	const listing = `00401000-00402000 r-xp 00001000 fe:00 11                                 /opt/ser` + "\x1b[2J" + `ver
01000000-01021000 rw-p 00000000 00:00 0                                  [heap]
7f0000000000-7f0000001000 ---p 00000000 00:00 0 
7f0000001000-7f0000801000 rw-p 00000000 00:00 0 
7f0001000000-7f0001100000 ---p 00000000 00:00 0 
7f0002000000-7f0002003000 rw-s 00000000 fe:00 12                         /data/%s
7f0003000000-7f0003010000 r-xp 00010000 fe:00 13                         /usr/lib/x86_64-linux-gnu/libc.so.6
7f0003010000-7f0003020000 ---p 00020000 fe:00 13                         /usr/lib/x86_64-linux-gnu/libc.so.6
7f0003020000-7f0003021000 r--p 00020000 fe:00 13                         /usr/lib/x86_64-linux-gnu/libc.so.6
7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0                          [stack]
`
	rows, err := procmaps.ParseMaps(fmt.Appendf(nil, listing, strings.Repeat("a long name ", 30)), "maps")
	if err != nil {
		t.Fatal(err)
	}
	s := &explain.Space{Threads: []procmaps.Thread{{TID: 42, SP: 0x7f0000800f00}}, Arch: "amd64", StackLimit: 8 << 20}
	for _, r := range rows {
		s.Rows = append(s.Rows, explain.Row{Mapping: r})
	}
	return s
}

// explanations are of every kind, by name.
func explanations(t *testing.T) (names []string, all []*Explanation) {
	t.Helper()
	s := crashed(t)
	add := func(name string, e *Explanation) {
		names, all = append(names, name), append(all, e)
	}
	living := func(name string, addr uint64, d *explain.Details) {
		add(name, &Explanation{Source: "process", PID: 41, Comm: "server", Answer: s.Address(addr, d, nil)})
	}
	malloc := &explain.Symbol{Function: "malloc", Offset: 0x20, File: "/build/glibc/malloc/malloc.c", Line: 3321, Address: 0x18340, Numbered: true}
	resident := procmaps.Page{Present: true, File: true, Scanned: true}
	living("code", 0x7f0003000340, &explain.Details{Page: &resident, Symbol: malloc})
	living("code without a name", 0x401010, &explain.Details{PageWhy: "open /proc/41/pagemap: permission denied", SymbolWhy: "not\x1bhere"})
	living("data", 0x7f0003020010, &explain.Details{Page: &procmaps.Page{Present: true, Exclusive: true, SoftDirty: true, Huge: true}, Symbol: &explain.Symbol{Address: 0x28010, Numbered: true}})
	living("heap", 0x1000340, &explain.Details{Page: &procmaps.Page{Swapped: true}})
	living("stack of a thread", 0x7f0000800f00, &explain.Details{Page: &procmaps.Page{Present: true, Zero: true, Scanned: true}})
	living("guard", 0x7f0000000ff8, &explain.Details{Page: &procmaps.Page{}})
	living("mark of a guard", 0x7f0000001010, &explain.Details{Page: &procmaps.Page{Guard: true}})
	living("between segments", 0x7f0003010000, nil)
	living("without access", 0x7f0001000010, nil)
	living("beyond the file", 0x7f0002002000, &explain.Details{FileBytes: 0x1800, FileKnown: true, Page: &procmaps.Page{}})
	living("null", 0, nil)
	living("member of null", 0x18, nil)
	living("gap", 0x1021010, nil)
	living("below all", 0x20000, nil)
	living("above all", 0x7ffc00021000, nil)
	living("stack room", 0x7ffbffffe000, nil)
	living("stack overflow", 0x7ffc00021000-8<<20-8, nil)
	living("not canonical", 0x8000000000000000, nil)
	living("text", 0x4847464544434241, nil)
	living("kernel", 0xffff888000000000, nil)
	living("error number", ^uint64(0)-21, nil)
	living("vsyscall", 0xffffffffff600000, nil)

	died := func(name string, addr uint64, f explain.Fault, space *explain.Space) {
		f.TID, f.Comm, f.Address, f.HasAddr = 42, "wor\x07ker", addr, true
		f.Settle()
		e := &Explanation{Source: "core", PID: 41, Answer: space.Address(addr, nil, &f)}
		if f.HasIP {
			e.At = space.Address(f.IP, &explain.Details{Symbol: malloc}, nil)
		}
		add(name, e)
	}
	segv := explain.Fault{Signal: 11, Code: 2, HasCode: true, IP: 0x7f0003000340, HasIP: true}
	unmapped := segv
	unmapped.Code = 1
	died("write to code", 0x401010, segv, s)
	died("nothing there", 0x18, unmapped, s)
	died("overflow of the stack", 0x7ffbfffffff8, unmapped, s)
	died("SIGBUS", 0x7f0002002000, explain.Fault{Signal: 7, Code: 2, HasCode: true, IP: 0x7f0003000340, HasIP: true}, s)
	died("error code alone", 0x7f0002002000, explain.Fault{
		Signal: 11, Error: 6, HasError: true, Access: explain.Writes, IP: 0x401000, HasIP: true, SP: 0x7f0002002010,
	}, &explain.Space{Missing: "the report has no listing of mappings"})

	add("general protection", &Explanation{
		Source: "core", PID: 41, Fault: &explain.Fault{Signal: 11, General: true},
		At: s.Address(0x7f0003000340, &explain.Details{Symbol: malloc}, nil),
	})
	add("abort", &Explanation{Source: "core", PID: 41, Fault: &explain.Fault{Signal: 6, Sent: true, Sender: 41}})
	add("killed", &Explanation{Source: "core", PID: 41, Fault: &explain.Fault{Signal: 11, Sent: true, Sender: 1}})
	add("no signal", &Explanation{Source: "core", PID: 41, Fault: &explain.Fault{}})
	return names, all
}

func TestExplanationsAsText(t *testing.T) {
	t.Parallel()
	names, all := explanations(t)
	var out strings.Builder
	for i, e := range all {
		var b bytes.Buffer
		if err := WriteExplanation(&b, e); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&out, "-- %s --\n%s\n", names[i], b.String())
		checkPrintable(t, b.String())
		if n := strings.Count(b.String(), "\n"); n > explainLines {
			t.Errorf("%s: %d lines", names[i], n)
		}
		for line := range strings.Lines(b.String()) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > explainColumns {
				t.Errorf("%s: %d columns: %s", names[i], n, line)
			}
		}
	}
	golden(t, "explain.txt", out.String())
}

func TestExplanationsAsJSON(t *testing.T) {
	t.Parallel()
	names, all := explanations(t)
	var out bytes.Buffer
	for i, e := range all {
		var b bytes.Buffer
		if err := WriteExplanationJSON(&b, e); err != nil {
			t.Fatal(err)
		}
		if !json.Valid(b.Bytes()) || bytes.Count(b.Bytes(), []byte{'\n'}) != 1 {
			t.Errorf("%s is not one object: %s", names[i], b.String())
		}
		checkPrintable(t, b.String())
		out.Write(b.Bytes())
	}
	golden(t, "explain.json", out.String())
}
