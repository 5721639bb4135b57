package main

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/maptrace/maptrace/testdata/tool"
)

// suite is the Debian that packages are installed in: the oldest one whose kernel
// the README promises to work with.
const suite = "bookworm"

// needPackages skips a test of what "make dist" made unless it is asked for, and
// returns the files.
func needPackages(t *testing.T) map[string]string {
	t.Helper()
	if os.Getenv("MAPTRACE_PACKAGES") == "" {
		t.Skip(`it needs ./dist and takes minutes: "make test-packages"`)
	}
	dir, err := filepath.Abs("../../dist")
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, e := range entries {
		files[e.Name()] = filepath.Join(dir, e.Name())
	}
	return files
}

// debian unpacks a minimal Debian. It is kept, packed, in the user's cache, since
// making it takes a minute and a network.
func debian(t *testing.T) (root string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root can install a Debian")
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	cache = filepath.Join(cache, "maptrace")
	packed := filepath.Join(cache, suite+"-"+runtime.GOARCH+".tar")
	if _, err := os.Stat(packed); errors.Is(err, fs.ErrNotExist) {
		debootstrap := tool.Need(t, "debootstrap")
		fresh := filepath.Join(t.TempDir(), "fresh")
		command(t, ".", nil, debootstrap, "--variant=minbase", suite, fresh)
		if err := os.MkdirAll(cache, 0o755); err != nil {
			t.Fatal(err)
		}
		command(t, ".", nil, "tar", "--numeric-owner", "-C", fresh, "-cf", packed+".new", ".")
		if err := os.Rename(packed+".new", packed); err != nil {
			t.Fatal(err)
		}
	}
	root = filepath.Join(t.TempDir(), "root")
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	command(t, ".", nil, "tar", "--numeric-owner", "-C", root, "-xpf", packed)
	return root
}

// inside makes a command that runs in a root of its own with the machine's /proc and
// /sys. Those are mounted in a namespace that ends with the command, so that nothing
// that removes the root can ever reach them.
func inside(t *testing.T, root, name string, args ...string) *exec.Cmd {
	t.Helper()
	const mount = `root=$1; shift
mount --rbind /proc "$root/proc" && mount --rbind /sys "$root/sys" && exec chroot "$root" "$@"`
	cmd := exec.CommandContext(t.Context(), "unshare", append([]string{"--mount", "sh", "-c", mount, "sh", root, name}, args...)...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "HOME=/root", "DEBIAN_FRONTEND=noninteractive"}
	return cmd
}

func mustRun(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%q: %v\n%s", cmd.Args, err, out)
	}
	return string(out)
}

func TestPackagesInstallAndRunInAFreshDebian(t *testing.T) {
	files := needPackages(t)
	root := debian(t)
	deb, err := os.ReadFile(files[find(files, "_"+runtime.GOARCH+".deb")])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "maptrace.deb"), deb, 0o644); err != nil {
		t.Fatal(err)
	}
	mustRun(t, inside(t, root, "dpkg", "--install", "/maptrace.deb"))
	if out := mustRun(t, inside(t, root, "dpkg", "--verify", "maptrace")); out != "" {
		t.Errorf("dpkg --verify: %s", out)
	}
	mustRun(t, inside(t, root, "bash", "-n", "/usr/share/bash-completion/completions/maptrace"))

	version := mustRun(t, inside(t, root, "maptrace", "--version"))
	if tar := find(files, "_linux_amd64.tar.gz"); !strings.HasPrefix(version, "maptrace v"+strings.TrimSuffix(strings.TrimPrefix(tar, "maptrace_"), "_linux_amd64.tar.gz")+" go") {
		t.Errorf("it says that it is %s, but %s is beside it", version, tar)
	}
	demo := mustRun(t, inside(t, root, "maptrace", "demo", "--duration", "2s"))
	for _, want := range []string{"picture: exact", "lost 0"} {
		if !strings.Contains(demo, want) {
			t.Errorf("the demo does not print %q:\n%s", want, demo)
		}
	}
	pid := "1"
	if _, err := os.ReadFile("/proc/1/maps"); err != nil {
		pid = strconv.Itoa(os.Getpid())
		t.Logf("this machine lets nobody see process 1 (%v): process %s is shown instead", err, pid)
	}
	out := mustRun(t, inside(t, root, "maptrace", "pmap", pid))
	if !strings.HasPrefix(out, pid+":   ") || !strings.Contains(out, "\n total ") {
		t.Errorf("pmap %s prints:\n%s", pid, out)
	}

	mustRun(t, inside(t, root, "dpkg", "--purge", "maptrace"))
	left := mustRun(t, inside(t, root, "find", "/usr", "/etc", "/var/lib/dpkg/info", "-name", "*maptrace*"))
	if left != "" {
		t.Errorf("what remains when it is removed:\n%s", left)
	}
}

func TestPackagesPleaseTheirCheckers(t *testing.T) {
	files := needPackages(t)
	for _, suffix := range []string{"_amd64.deb", "_arm64.deb"} {
		t.Run("lintian "+suffix, func(t *testing.T) {
			lintian := tool.Need(t, "lintian")
			args := []string{"--fail-on", "error,warning", "--allow-root", files[find(files, suffix)]}
			if out, err := exec.CommandContext(t.Context(), lintian, args...).CombinedOutput(); err != nil || len(out) > 0 {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
	for suffix, arch := range map[string]string{".x86_64.rpm": "x86_64", ".aarch64.rpm": "aarch64"} {
		t.Run("rpm "+suffix, func(t *testing.T) {
			rpm := tool.Need(t, "rpm")
			path := files[find(files, suffix)]
			if out := command(t, ".", nil, rpm, "--checksig", "--nosignature", path); !strings.HasSuffix(out, ": digests OK\n") {
				t.Errorf("digests: %s", out)
			}
			list := command(t, ".", nil, rpm, "--query", "--package", "--list", path)
			for _, want := range []string{
				"/usr/bin/maptrace\n", "/usr/share/man/man1/maptrace.1.gz\n", "/usr/share/licenses/maptrace/LICENSE\n",
				"/usr/share/zsh/site-functions/_maptrace\n",
			} {
				if !strings.Contains(list, want) {
					t.Errorf("it lacks %s:\n%s", want, list)
				}
			}
			const format = `%{ARCH} %{BUILDHOST} %{LICENSE}\n[%{REQUIRES}\n]`
			got := command(t, ".", nil, rpm, "--query", "--package", "--queryformat", format, path)
			head, requires, _ := strings.Cut(got, "\n")
			if head != arch+" localhost Apache-2.0" {
				t.Errorf("it says %q", head)
			}
			for r := range strings.Lines(requires) {
				if r = strings.TrimSpace(r); r != "" && r != "(none)" && !strings.HasPrefix(r, "rpmlib(") {
					t.Errorf("it requires %q", r)
				}
			}
		})
	}
}

// TestPackagesHoldAProgramForArm64 runs it, which needs an emulator elsewhere. An
// emulator of programs has no BPF.
func TestPackagesHoldAProgramForArm64(t *testing.T) {
	files := needPackages(t)
	run := []string{files[find(files, "_linux_arm64")]}
	if runtime.GOARCH != "arm64" {
		emulator, err := tool.Path("qemu-aarch64-static")
		if err != nil {
			emulator = tool.Need(t, "qemu-aarch64")
		}
		run = append([]string{emulator}, run...)
	}
	maptrace := func(args ...string) string {
		return command(t, ".", nil, run[0], append(run[1:len(run):len(run)], args...)...)
	}
	if out := maptrace("--version"); !strings.HasPrefix(out, "maptrace v") {
		t.Errorf("it says that it is %s", out)
	}
	pid := strconv.Itoa(os.Getpid())
	if out := maptrace("pmap", "-x", pid); !strings.HasPrefix(out, pid+":   ") || !strings.Contains(out, "\ntotal kB ") {
		t.Errorf("pmap -x %s prints:\n%s", pid, out)
	}
}
