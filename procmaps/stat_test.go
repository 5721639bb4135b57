package procmaps

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const catStat = "101 (cat) T 22609 22609 8685 0 -1 4194304 109 3 2 1 5 6 0 0 20 0 4 0 256186 3137536 443 " +
	"18446744073709551615 94433466228736 94433466246865 140734017130160 0 0 0 0 16781312 2 1 0 0 17 1 0 0 0 0 0 " +
	"94433466260848 94433466262208 94433990787072 140734017138682 140734017138691 140734017138691 140734017142763 0\n"

func TestParseStat(t *testing.T) {
	got, err := ParseStat([]byte(catStat), "stat")
	if err != nil {
		t.Fatal(err)
	}
	want := &Stat{
		PID: 101, Comm: "cat", State: 'T', PPID: 22609, PGRP: 22609, Session: 8685, Flags: 4194304,
		MinFlt: 109, MajFlt: 2, UTimeTicks: 5, STimeTicks: 6, NumThreads: 4, StartTimeTicks: 256186,
		VSizeBytes: 3137536, RSSPages: 443, StartCode: 94433466228736, EndCode: 94433466246865,
		StartStack: 140734017130160, StartData: 94433466260848, EndData: 94433466262208,
		StartBrk: 94433990787072, ArgStart: 140734017138682, ArgEnd: 140734017138691,
		EnvStart: 140734017138691, EnvEnd: 140734017142763,
	}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("(-got +want):\n%s", diff)
	}
}

func TestParseStatNames(t *testing.T) {
	for _, name := range []string{"", "a b", ")", "a) R 1 (b", "new\nline", "\xff"} {
		got, err := ParseStat([]byte(strings.Replace(catStat, "cat", name, 1)), "stat")
		if err != nil || got.Comm != name || got.State != 'T' || got.PPID != 22609 {
			t.Errorf("%q: %+v, %v", name, got, err)
		}
	}
}

func TestStatOfOtherProcesses(t *testing.T) {
	const kthread = "2 (kthreadd) S 0 0 0 0 -1 2129984 0 0 0 0 0 0 0 0 20 0 1 0 1 0 0 18446744073709551615 0 0 0 0\n"
	s, err := ParseStat([]byte(kthread), "stat")
	if err != nil || !s.KernelThread() || s.Dead() || s.StartBrk != 0 {
		t.Errorf("kthreadd: %+v, %v", s, err)
	}
	zombie := strings.Replace(catStat, ") T", ") Z", 1)
	if s, err := ParseStat([]byte(zombie), "stat"); err != nil || s.KernelThread() || !s.Dead() {
		t.Errorf("a zombie: %+v, %v", s, err)
	}
}

func TestParseStatRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"nothing":                   "",
		"no name":                   "101 cat T 1 2 3\n",
		"no state":                  "101 (cat)\n",
		"a short line":              catStat[:60],
		"a pid that is no number":   "x" + catStat,
		"a field that is no number": strings.Replace(catStat, "4194304", "4194304x", 1),
		"two spaces":                strings.Replace(catStat, " 4194304", "  4194304", 1),
		"a negative size":           strings.Replace(catStat, "3137536", "-3137536", 1),
		"a parent out of range":     strings.Replace(catStat, "T 22609", "T 2147483648", 1),
	} {
		if s, err := ParseStat([]byte(text), "stat"); !errors.Is(err, ErrParse) {
			t.Errorf("%s: %+v, %v; want %v", name, s, err, ErrParse)
		}
	}
}

func TestRSS(t *testing.T) {
	root := t.TempDir()
	f, err := NewFS(root)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		text  string
		pages int
		err   error
	}{
		"a process":        {"766 443 432 5 0 94 0\n", 443, nil},
		"no address space": {"0 0 0 0 0 0 0\n", 0, nil},
		"nothing":          {"", 0, ErrParse},
		"one number":       {"766\n", 0, ErrParse},
		"no number":        {"766 x\n", 0, ErrParse},
		"a negative size":  {"766 -1 0\n", 0, ErrParse},
	} {
		dir := filepath.Join(root, "7")
		if err := errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(filepath.Join(dir, "statm"), []byte(c.text), 0o600)); err != nil {
			t.Fatal(err)
		}
		if got, err := f.RSS(7); !errors.Is(err, c.err) || got != uint64(c.pages*os.Getpagesize()) {
			t.Errorf("%s: %d, %v; want %d pages, %v", name, got, err, c.pages, c.err)
		}
	}
	if _, err := f.RSS(8); !errors.Is(err, ErrGone) {
		t.Errorf("one that is not there: %v, want %v", err, ErrGone)
	}
}

func TestParseStatus(t *testing.T) {
	const text = "Name:\ta\\nb\\\\n\nUmask:\t0022\nState:\tS (sleeping)\nTgid:\t7\nNgid:\t0\nPid:\t8\nPPid:\t1\nTracerPid:\t9\n" +
		"Uid:\t0\t1\t4294967295\t3\nGid:\t4\t5\t6\t7\nGroups:\t \nNStgid:\t7\t2\nNSpid:\t8\t3\nKthread:\t0\n" +
		"VmPeak:\t    3060 kB\nVmSize:\t    3050 kB\nVmRSS:\t    1764 kB\nRssShmem:\t       4 kB\nVmSwap:\t       2 kB\n" +
		"Threads:\t2\nUnknown:\twhatever\nvoluntary_ctxt_switches:\t5\nnonvoluntary_ctxt_switches:\t6\n"
	got, err := ParseStatus([]byte(text), "status")
	if err != nil {
		t.Fatal(err)
	}
	want := &Status{
		Name: "a\nb\\n", State: 'S', Tgid: 7, Pid: 8, PPid: 1, TracerPid: 9,
		UID: [4]uint32{0, 1, 4294967295, 3}, GID: [4]uint32{4, 5, 6, 7},
		NStgid: []int{7, 2}, NSpid: []int{8, 3}, Threads: 2, HasMemory: true,
		VmPeakKB: 3060, VmSizeKB: 3050, VmRSSKB: 1764, RssShmemKB: 4, VmSwapKB: 2,
		VoluntarySwitches: 5, NonvoluntarySwitches: 6,
	}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("(-got +want):\n%s", diff)
	}
	kthread, err := ParseStatus([]byte("Name:\tkthreadd\nPid:\t2\nKthread:\t1\n"), "status")
	if err != nil || !kthread.Kthread || kthread.HasMemory {
		t.Errorf("a kernel thread: %+v, %v", kthread, err)
	}
	for name, bad := range map[string]string{
		"nothing":                 "",
		"a line without a colon":  "Pid:\t7\nwhat\n",
		"a size without its unit": "Pid:\t7\nVmSize:\t5\n",
		"a size in MB":            "Pid:\t7\nVmSize:\t5 MB\n",
		"three user ids":          "Pid:\t7\nUid:\t1\t2\t3\n",
		"a user id of 33 bits":    "Pid:\t7\nUid:\t1\t2\t3\t4294967296\n",
		"a hex pid":               "Pid:\t0x7\n",
		"a negative pid":          "Pid:\t-7\n",
		"a namespace pid":         "Pid:\t7\nNSpid:\t7 x\n",
		"an empty state":          "Pid:\t7\nState:\t\n",
		"a line that was cut":     "Pid:\t7\nVmSize:\t50",
	} {
		if s, err := ParseStatus([]byte(bad), "status"); !errors.Is(err, ErrParse) {
			t.Errorf("%s: %+v, %v; want %v", name, s, err, ErrParse)
		}
	}
}

func TestParseCgroup(t *testing.T) {
	const text = "12:cpu,cpuacct:/\n4:memory:/docker/ab:cd\n1:name=systemd:/a b (deleted)\n0::/../x\n"
	got, err := ParseCgroup([]byte(text), "cgroup")
	if err != nil {
		t.Fatal(err)
	}
	want := []Cgroup{
		{12, []string{"cpu", "cpuacct"}, "/"},
		{4, []string{"memory"}, "/docker/ab:cd"},
		{1, []string{"name=systemd"}, "/a b (deleted)"},
		{0, nil, "/../x"},
	}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("(-got +want):\n%s", diff)
	}
	for _, bad := range []string{"x::/\n", "0:/\n", "0\n", "0::/", "99999999999::/\n"} {
		if g, err := ParseCgroup([]byte(bad), "cgroup"); !errors.Is(err, ErrParse) {
			t.Errorf("%q: %v, %v; want %v", bad, g, err, ErrParse)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	addFixtures(f, "stat")
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := ParseStat(data, "stat")
		if (s == nil) == (err == nil) {
			t.Fatalf("got %+v, %v", s, err)
		}
		if s != nil && (s.PID < 0 || !strings.Contains(string(data), "("+s.Comm+")")) {
			t.Fatalf("got %+v", s)
		}
	})
}

func FuzzParseStatm(f *testing.F) {
	for _, text := range []string{"", "766 443 432 5 0 94 0\n", "1", "1 x", "1 -1 0", "0 18446744073709551616"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		pages, err := parseStatm(data, "statm")
		if err != nil && (pages != 0 || !errors.Is(err, ErrParse)) {
			t.Errorf("%d pages, and %v", pages, err)
		}
		if again, e := parseStatm(append(data, " 7\n"...), "statm"); err == nil && len(bytes.Fields(data)) > 2 && (e != nil || again != pages) {
			t.Errorf("%d pages, and %d with another field, %v", pages, again, e)
		}
	})
}

func FuzzParseStatus(f *testing.F) {
	addFixtures(f, "status")
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := ParseStatus(data, "status")
		if (s == nil) == (err == nil) {
			t.Fatalf("got %+v, %v", s, err)
		}
		if s != nil && (s.Pid <= 0 || s.Tgid < 0 || s.Threads < 0) {
			t.Fatalf("got %+v", s)
		}
	})
}

func FuzzParseCgroup(f *testing.F) {
	addFixtures(f, "cgroup")
	f.Fuzz(func(t *testing.T, data []byte) {
		groups, err := ParseCgroup(data, "cgroup")
		if err != nil {
			if groups != nil || !errors.Is(err, ErrParse) {
				t.Fatalf("got %v, %v", groups, err)
			}
			return
		}
		if len(groups) != strings.Count(string(data), "\n") {
			t.Fatalf("%d groups out of %q", len(groups), data)
		}
	})
}
