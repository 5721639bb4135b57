package table

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/maptrace/maptrace/procmaps"
	"github.com/maptrace/maptrace/testdata/tool"
)

var update = flag.Bool("update", false, "write the golden files anew")

// kernels are the directories of testdata/kernels: what several kernels show of
// one program, see the README.md there.
var kernels = []string{"5.10", "6.1", "6.12", "6.18", "anon-names"}

// kernelShmDevice is procmaps.ShmDevice of all these kernels.
var kernelShmDevice = procmaps.Device{Minor: 1}

// kernelLayouts are the tables to print of each, by the names of their golden
// files. Those must differ in more than case.
var kernelLayouts = []struct {
	name string
	args []string // of pmap
	opt  Options
}{
	{"default", nil, Options{}},
	{"paths", []string{"-p"}, Options{ShowPath: true}},
	{"kernel-names", []string{"-k"}, Options{KernelNames: true}},
	{"extended", []string{"-x"}, Options{Layout: LayoutExtended}},
	{"device", []string{"-d"}, Options{Layout: LayoutDevice}},
	{"details", []string{"-X"}, Options{Layout: LayoutDetails}},
	{"details-paths", []string{"-X", "-p"}, Options{Layout: LayoutDetails, ShowPath: true}},
	{"all", []string{"-XX"}, Options{Layout: LayoutAll}},
}

func kernelDir(kernel string) string { return filepath.Join("testdata", "kernels", kernel) }

// kernelGolden reads what the layout of that name prints of the kernel's process.
func kernelGolden(t *testing.T, kernel, layout string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(kernelDir(kernel), "golden", layout+".txt"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// kernelProcess opens the only process of the kernel.
func kernelProcess(t *testing.T, kernel string) *procmaps.Process {
	t.Helper()
	root, err := procmaps.NewFS(kernelDir(kernel))
	if err != nil {
		t.Fatal(err)
	}
	pids, err := root.Pids()
	if err != nil || len(pids) != 1 {
		t.Fatalf("%s has the processes %v, %v; want one", root.Root(), pids, err)
	}
	p, err := root.Process(pids[0])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func TestTheTablesOfEachKernelAreTheGoldenOnes(t *testing.T) {
	for _, kernel := range kernels {
		for _, l := range kernelLayouts {
			t.Run(kernel+" "+l.name, func(t *testing.T) {
				p := kernelProcess(t, kernel)
				proc, err := Describe(p)
				if err != nil {
					t.Fatal(err)
				}
				proc.ShmDevice = kernelShmDevice
				if err := proc.Load(p, l.opt.Layout); err != nil {
					t.Fatal(err)
				}
				var got strings.Builder
				if err := NewPrinter(&got, l.opt).print(proc); err != nil {
					t.Fatal(err)
				}
				if *update {
					file := filepath.Join(kernelDir(kernel), "golden", l.name+".txt")
					if err := os.WriteFile(file, []byte(got.String()), 0o644); err != nil {
						t.Fatal(err)
					}
				}
				if diff := cmp.Diff(got.String(), kernelGolden(t, kernel, l.name)); diff != "" {
					t.Errorf("(-got +golden):\n%s", diff)
				}
			})
		}
	}
}

func TestTheKeysOfEachKernelAreReadFromEveryRow(t *testing.T) {
	newest := strings.Fields(`Size KernelPageSize MMUPageSize Rss Pss Pss_Dirty Shared_Clean Shared_Dirty
		Private_Clean Private_Dirty Referenced Anonymous KSM LazyFree AnonHugePages ShmemPmdMapped
		FilePmdMapped Shared_Hugetlb Private_Hugetlb Swap SwapPss Locked THPeligible ProtectionKey`)
	without := map[string][]string{"5.10": {"Pss_Dirty", "KSM"}, "6.1": {"KSM"}}
	noSizes := []string{"THPeligible", "ProtectionKey"}
	for _, kernel := range kernels {
		t.Run(kernel, func(t *testing.T) {
			var want []procmaps.Key
			for _, name := range newest {
				if !slices.Contains(without[kernel], name) {
					want = append(want, procmaps.Key{Name: name, KB: !slices.Contains(noSizes, name)})
				}
			}
			p := kernelProcess(t, kernel)
			s, err := p.Smaps()
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(s.Keys, want); diff != "" {
				t.Errorf("(-got +want):\n%s", diff)
			}
			var rows []procmaps.Mapping
			for i := range s.Rows {
				r := &s.Rows[i]
				rows = append(rows, r.Mapping)
				for k := range s.Keys {
					if _, ok := r.Value(k); !ok {
						t.Errorf("%v has no %s", r.Mapping, s.Keys[k].Name)
					}
				}
				if r.Flags.String() == "" {
					t.Errorf("%v has no flags", r.Mapping)
				}
			}
			maps, err := p.Maps()
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(rows, maps); diff != "" {
				t.Errorf("(-smaps +maps):\n%s", diff)
			}
		})
	}
}

// pmapOfKernel returns what pmap prints of a kernel's process. For pmap alone, the
// process' files cover those of the running test: it still needs the rest of /proc
// to find out about itself. The test's number is the only byte that is not theirs,
// and is changed back in the result.
func pmapOfKernel(t *testing.T, p *procmaps.Process, kernel string, args ...string) (string, error) {
	t.Helper()
	files := filepath.Join(kernelDir(kernel), strconv.Itoa(p.PID()))
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(files)); err != nil {
		t.Fatal(err)
	}
	status, err := os.ReadFile(filepath.Join(files, "status"))
	if err != nil {
		t.Fatal(err)
	}
	covered := strconv.Itoa(os.Getpid())
	// This is where pmap takes the number from, to open the other files.
	before, after, found := strings.Cut(string(status), fmt.Sprintf("\nTgid:\t%d\n", p.PID()))
	if !found {
		t.Fatalf("the status of %d has another Tgid", p.PID())
	}
	if err = os.WriteFile(filepath.Join(dir, "status"), []byte(before+"\nTgid:\t"+covered+"\n"+after), 0o644); err != nil {
		t.Fatal(err)
	}
	unshare := []string{"--mount"}
	if os.Geteuid() != 0 {
		unshare = append(unshare, "--map-root-user")
	}
	const script = `mount --bind "$1" "/proc/$2" && shift 2 && exec pmap "$@"`
	args = append(append(unshare, "sh", "-c", script, "sh", dir, covered), append(args, covered)...)
	cmd := exec.CommandContext(t.Context(), "unshare", args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := cmd.Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		err = fmt.Errorf("%w: %s", err, exit.Stderr)
	}
	text, ours := strings.CutPrefix(string(out), covered+":")
	if err == nil && !ours {
		t.Fatalf("pmap printed the table of another process:\n%s", out)
	}
	return fmt.Sprintf("%d:%s", p.PID(), text), err
}

// asPmap changes a table of ours in the one point where these processes make it
// depart from pmap's, which takes a slash in a name the kernel made for a path's.
func asPmap(text string, rows []procmaps.Mapping, opt Options) string {
	details := opt.Layout == LayoutDetails || opt.Layout == LayoutAll
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		address, _, _ := strings.Cut(strings.TrimLeft(line, " "), " ")
		start, err := strconv.ParseUint(address, 16, 64)
		if err != nil {
			continue
		}
		at := slices.IndexFunc(rows, func(m procmaps.Mapping) bool { return m.Start == start })
		if at < 0 || !strings.HasPrefix(rows[at].Name, "[") || !strings.Contains(rows[at].Name, "/") {
			continue
		}
		name := rows[at].Name
		ours, theirs := "  [ anon ]", name[strings.LastIndexByte(name, '/')+1:]
		if details || opt.KernelNames {
			ours = name
		}
		switch {
		case opt.ShowPath && details:
			theirs = name
		case opt.ShowPath:
			theirs = name[strings.IndexByte(name, '/'):]
		}
		lines[i] = strings.TrimSuffix(line, ours) + theirs
	}
	return strings.Join(lines, "\n")
}

func TestTheGoldenTablesAreThoseOfPmap(t *testing.T) {
	tool.Need(t, "unshare")
	version, err := exec.CommandContext(t.Context(), tool.Need(t, "pmap"), "-V").Output()
	if err != nil || !strings.Contains(string(version), "procps-ng") {
		t.Skipf("no pmap of procps-ng: %q, %v", version, err)
	}
	dev, err := procmaps.ShmDevice()
	if err != nil || dev != kernelShmDevice {
		t.Skipf("pmap would not know shared memory in the files: here its device is %v, %v", dev, err)
	}
	if _, err = pmapOfKernel(t, kernelProcess(t, kernels[0]), kernels[0]); err != nil {
		t.Skipf("no right to mount: %v", err)
	}
	for _, kernel := range kernels {
		for _, l := range kernelLayouts {
			t.Run(kernel+" "+l.name, func(t *testing.T) {
				p := kernelProcess(t, kernel)
				got, err := pmapOfKernel(t, p, kernel, l.args...)
				if err != nil && strings.Contains(err.Error(), "invalid option") {
					t.Skipf("%s is too old for %v", bytes.TrimSpace(version), l.args)
				}
				if err != nil {
					t.Fatal(err)
				}
				rows, err := p.Maps()
				if err != nil {
					t.Fatal(err)
				}
				golden := asPmap(kernelGolden(t, kernel, l.name), rows, l.opt)
				if diff := cmp.Diff(golden, got); diff != "" {
					t.Errorf("(-golden +pmap):\n%s", diff)
				}
			})
		}
	}
}
