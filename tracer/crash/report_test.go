package crash

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/tracer/explain"
)

func TestFaultsInReports(t *testing.T) {
	t.Parallel()
	const segv, bus = 11, 7
	for _, tt := range []struct {
		name, text string
		want       []explain.Fault
	}{
		{
			"the kernel's line", "[31656.908227] crash[10190]: segfault at 18 ip 000055a8ef59b179 sp 00007fff3ebc2b78 error 4 in crash[1179,55a8ef59b000+1000] likely on CPU 1 (core 1, socket 0)\n",
			[]explain.Fault{{Signal: segv, Access: explain.Reads, Error: 4, HasError: true, Address: 0x18, HasAddr: true, TID: 10190, Comm: "crash", IP: 0x55a8ef59b179, SP: 0x7fff3ebc2b78, HasIP: true}},
		},
		{
			"through a log, with a name of two words", "Jul 1 12:00:00 host kernel: my prog[7]: segfault at 7f0000000000 ip 7f0000000000 sp 7ffd00000000 error 15",
			[]explain.Fault{{Signal: segv, Access: explain.Executes, Error: 0x15, HasError: true, Address: 0x7f0000000000, HasAddr: true, TID: 7, Comm: "my prog", IP: 0x7f0000000000, SP: 0x7ffd00000000, HasIP: true}},
		},
		{
			"general protection", "traps: a.out[5] general protection fault ip:401126 sp:7ffe00000010 error:0 in a.out[401000+1000]\n",
			[]explain.Fault{{Signal: segv, General: true, TID: 5, Comm: "a.out", IP: 0x401126, SP: 0x7ffe00000010, HasIP: true}},
		},
		{
			"Go", "panic: runtime error\n[signal SIGSEGV: segmentation violation code=0x1 addr=0x18 pc=0x47b1c4]\n\ngoroutine 1 [running]:\n",
			[]explain.Fault{{Signal: segv, Code: 1, HasCode: true, Address: 0x18, HasAddr: true, IP: 0x47b1c4, HasIP: true}},
		},
		{
			"Go, of a signal that was sent", "[signal SIGABRT: abort code=0xfffffffa addr=0x1f pc=0x47b1c4]\n",
			[]explain.Fault{{Signal: 6, Code: -6, HasCode: true, Sent: true, Address: 0x1f, IP: 0x47b1c4, HasIP: true}},
		},
		{
			"the JVM", "#  SIGSEGV (0xb) at pc=0x00007f3e75631234, pid=12, tid=13\n#\nsiginfo: si_signo: 11 (SIGSEGV), si_code: 2 (SEGV_ACCERR), si_addr: 0x00007f3e75828000\n",
			[]explain.Fault{{Signal: segv, Code: 2, HasCode: true, Address: 0x7f3e75828000, HasAddr: true, IP: 0x7f3e75631234, HasIP: true}},
		},
		{
			"the JVM, killed", "siginfo: si_signo: 11 (SIGSEGV), si_code: 0 (SI_USER), si_pid: 77, si_uid: 0\n",
			[]explain.Fault{{Signal: segv, HasCode: true, Sent: true, Sender: 77}},
		},
		{
			"a sanitizer", "==1==ERROR: AddressSanitizer: SEGV on unknown address 0x000000000018 (pc 0x55a8ef59b179 bp 0x7ffd sp 0x7ffc00000010 T0)\n==1==The signal is caused by a WRITE memory access.\n",
			[]explain.Fault{{Signal: segv, Access: explain.Writes, Address: 0x18, HasAddr: true, IP: 0x55a8ef59b179, SP: 0x7ffc00000010, HasIP: true}},
		},
		{
			"a sanitizer, without an address", "==1==ERROR: AddressSanitizer: SEGV on unknown address (pc 0x55a8ef59b179 bp 0x7ffd sp 0x7ffc00000010 T0)\n==1==The signal is caused by a READ memory access.\n",
			[]explain.Fault{{Signal: segv, Access: explain.Reads, General: true, IP: 0x55a8ef59b179, SP: 0x7ffc00000010, HasIP: true}},
		},
		{
			"Android", "signal 7 (SIGBUS), code 2 (BUS_ADRERR), fault addr 0x7f00000000\n",
			[]explain.Fault{{Signal: bus, Code: 2, HasCode: true, Address: 0x7f00000000, HasAddr: true}},
		},
		{
			"Chromium", "Received signal 11 SEGV_MAPERR 000000000018\r\n",
			[]explain.Fault{{Signal: segv, Code: 1, HasCode: true, Address: 0x18, HasAddr: true}},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c, err := ReadReport(strings.NewReader(tt.text))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, c.Faults); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if !strings.Contains(c.Missing, "no listing") {
				t.Errorf("missing: %q", c.Missing)
			}
		})
	}
}

func TestTheKernelNamesTheMappingOfTheInstruction(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]explain.Row{
		" in crash[1179,55a8ef59b000+1000] likely on CPU 1": {Mapping: procmaps.Mapping{Range: procmaps.Range{Start: 0x55a8ef59b000, End: 0x55a8ef59c000}, Offset: 0x1000, Name: "crash"}, Known: explain.NoMode},
		" in libc.so.6[55a8ef580000+100000]":                {Mapping: procmaps.Mapping{Range: procmaps.Range{Start: 0x55a8ef580000, End: 0x55a8ef680000}, Name: "libc.so.6"}, Known: explain.NoMode, NoOffset: true},
		" in a[b] c[1179,55a8ef59b000+1000]":                {Mapping: procmaps.Mapping{Range: procmaps.Range{Start: 0x55a8ef59b000, End: 0x55a8ef59c000}, Offset: 0x1000, Name: "a[b] c"}, Known: explain.NoMode},
		" in x[55a8ef580000+10]":                            {}, // the instruction is not there
		" in x[ffffffffffffffff+10]":                        {},
		" likely on CPU 1":                                  {},
	} {
		c, err := ReadReport(strings.NewReader("a.out[1]: segfault at 8 ip 55a8ef59b179 sp 7ffc00000010 error 4" + in + "\n"))
		if err != nil {
			t.Fatal(err)
		}
		if want.Empty() {
			if len(c.Rows) > 0 || c.Partial {
				t.Errorf("%q: %+v", in, c.Rows)
			}
			continue
		}
		if diff := cmp.Diff([]explain.Row{want}, c.Rows); diff != "" || !c.Partial || c.Arch != "amd64" {
			t.Errorf("%q: partial %v, -want +got:\n%s", in, c.Partial, diff)
		}
	}
}

func TestListingsInReports(t *testing.T) {
	t.Parallel()
	const rows = "00401000-00402000 r-xp 00001000 fe:00 11                         /opt/my server\n" +
		"7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0                          [stack]\n"
	full, err := procmaps.ParseMaps([]byte(rows), "maps")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, text, missing string
	}{
		{"as they are", rows, ""},
		{"with text around", "Dynamic libraries:\n" + rows + "Total number of mappings: 2\n", ""},
		{"behind what a log puts before lines", "I/1-2 maps: " + strings.ReplaceAll(rows, "\n7ff", "\nI/1-2 maps: 7ff"), ""},
		{"with carriage returns", strings.ReplaceAll(rows, "\n", "\r\n"), ""},
		{"twice", rows + "\n" + rows, "of several listings of mappings the first was taken"},
		{"without the last newline", strings.TrimSuffix(rows, "\n"), ""},
	} {
		c, failed := ReadReport(strings.NewReader(tt.text))
		if failed != nil {
			t.Errorf("%s: %v", tt.name, failed)
			continue
		}
		var got []procmaps.Mapping
		for _, r := range c.Rows {
			got = append(got, r.Mapping)
		}
		if diff := cmp.Diff(full, got); diff != "" || c.Missing != tt.missing || c.Partial {
			t.Errorf("%s: %q, -want +got:\n%s", tt.name, c.Missing, diff)
		}
	}
	c, err := ReadReport(strings.NewReader("Process map follows:\n\t0x000000401000-0x000000402000\t/opt/server\n\t0x7f0000000000-0x7f0000001000\t\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := []explain.Row{
		{Mapping: procmaps.Mapping{Range: procmaps.Range{Start: 0x401000, End: 0x402000}, Name: "/opt/server"}, Known: explain.NoMode, NoOffset: true},
		{Mapping: procmaps.Mapping{Range: procmaps.Range{Start: 0x7f0000000000, End: 0x7f0000001000}}, Known: explain.NoMode, NoOffset: true},
	}
	if diff := cmp.Diff(want, c.Rows); diff != "" {
		t.Errorf("of a sanitizer: -want +got:\n%s", diff)
	}
}

func TestATextWithoutAnythingIsNoReport(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "\n", "it crashed\n", "1-2 rw-p", "segfault at nowhere\n", strings.Repeat("x", 3*maxLine)} {
		if c, err := ReadReport(strings.NewReader(text)); !errors.Is(err, ErrNoReport) {
			t.Errorf("%.20q: %+v, %v", text, c, err)
		}
	}
	many := strings.Repeat("Received signal 11 SEGV_MAPERR 18\n", 5*maxReportFaults)
	if c, err := ReadReport(strings.NewReader(many)); err != nil || len(c.Faults) != maxReportFaults || !strings.Contains(c.Missing, "faults the first") {
		t.Errorf("%d faults, %v", len(c.Faults), err)
	}
}

// TestALineIsNotReadAgainAndAgain has lines that seem to have a row at each of thousands of places.
func TestALineIsNotReadAgainAndAgain(t *testing.T) {
	for _, piece := range []string{"0000-0 r--p ", "0000-", "0x0000-0x0\t", "0x0000-0x1 "} {
		line := strings.Repeat(piece, (maxLine-2)/len(piece)) + "\n"
		once := testing.AllocsPerRun(1, func() { _, _ = ReadReport(strings.NewReader(piece + "\n")) })
		if n := testing.AllocsPerRun(1, func() { _, _ = ReadReport(strings.NewReader(line)) }); n > 2*maxTries*(once+1) {
			t.Errorf("%q, %d times: %g allocations, and %g of one", piece, len(line)/len(piece), n, once)
		}
	}
}

func FuzzReadReport(f *testing.F) {
	f.Add("a.out[1]: segfault at 8 ip 55a8ef59b179 sp 7ffc00000010 error 4 in x[1,55a8ef59b000+1000]\n", uint64(8))
	f.Add("00401000-00402000 r-xp 00001000 fe:00 11   /a\n\t0x500000-0x600000\t/b\n", uint64(0x401000))
	f.Add("#  SIGSEGV (0xb) at pc=0x7f\nsiginfo: si_signo: 11 (SIGSEGV), si_code: 2 (SEGV_ACCERR), si_addr: 0x7\n", uint64(7))
	f.Fuzz(func(t *testing.T, text string, addr uint64) {
		c, err := ReadReport(strings.NewReader(text))
		if (c == nil) == (err == nil) {
			t.Fatalf("%v and %v", c, err)
		}
		checkCrash(t, c, addr)
	})
}

// checkCrash wants rows in order, and has addresses explained.
func checkCrash(t *testing.T, c *Crash, addr uint64) {
	t.Helper()
	if c == nil {
		return
	}
	end := uint64(0)
	for _, r := range c.Rows {
		if r.Start < end || r.Empty() {
			t.Fatalf("row %v after %#x", r.Range, end)
		}
		end = r.End
	}
	if a := c.Address(addr, nil, nil); a.What == 0 || (a.Row != nil) != (c.Find(addr) != nil) {
		t.Fatalf("%#x: %+v", addr, a)
	}
	for i := range c.Faults {
		c.Address(c.Faults[i].Address, nil, &c.Faults[i])
	}
}

// TestRealReports reads what programs have printed.
func TestRealReports(t *testing.T) {
	t.Parallel()
	file, err := os.Open(filepath.Join("testdata", "dmesg.txt"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	c, err := ReadReport(file)
	if err != nil || len(c.Faults) != 5 {
		t.Fatalf("%+v, %v", c, err)
	}
	if c.Faults[3].Error != 6 || !c.Faults[4].General || c.Comm != "crash" {
		t.Errorf("faults %+v", c.Faults)
	}
}
