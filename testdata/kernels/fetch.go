package main

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// keyring is what the archive's signatures are checked with, of the package
// debian-archive-keyring.
const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

// sources are the parts of Debian's archive that have the kernels.
var sources = [][2]string{
	{"http://deb.debian.org/debian-security", "bullseye-security"},
	{"http://deb.debian.org/debian-security", "bookworm-security"},
	{"http://deb.debian.org/debian-security", "trixie-security"},
	{"http://deb.debian.org/debian", "trixie-backports"},
}

// fresh is for how long a kernel is taken from the cache without a look whether
// there is a newer one.
const fresh = 7 * 24 * time.Hour

// errNoPackage says that the archive has no such kernel (any more).
var errNoPackage = errors.New("the archive has no such package")

// cache keeps the kernels: DIR/PATTERN/PACKAGE is the image. It reads Debian's archive
// with a state of apt of its own, so that the machine's is left as it is.
type cache struct {
	dir      string
	log      io.Writer
	packages []string // NAME:ARCH, all there are; nil before the first look
	failed   error    // why there was no look at the archive
}

// defaultCache is where kernels are kept unless told otherwise.
func defaultCache() (string, error) {
	if dir := os.Getenv("MAPTRACE_KERNELS"); dir != "" {
		return dir, nil
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find a place for the kernels (MAPTRACE_KERNELS can name one): %w", err)
	}
	return filepath.Join(dir, "maptrace", "kernels"), nil
}

// image is the file of a kernel and the package it came in.
type image struct{ path, pkg string }

// get returns the newest kernel that there is: from the cache if it is fresh, or if
// the archive cannot be reached.
func (c *cache) get(ctx context.Context, k *kernel) (image, error) {
	// Several machines may boot the same kernel.
	dir := filepath.Join(c.dir, strings.ReplaceAll(k.pattern, "*", "x"))
	have, age, err := cached(dir)
	if err != nil {
		return image{}, err
	}
	if have.path != "" && age < fresh {
		return have, nil
	}
	got, err := c.fetch(ctx, k, dir)
	if err != nil && have.path != "" {
		fmt.Fprintf(c.log, "%s: %v; %s of %d days ago is used\n", k.id, err, have.pkg, int(age.Hours()/24))
		return have, nil
	}
	return got, err
}

// cached returns the newest image of a directory and how old it is.
func cached(dir string) (image, time.Duration, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return image{}, 0, err
	}
	var have image
	var at time.Time
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			return image{}, 0, err
		}
		if strings.HasPrefix(e.Name(), "linux-") && info.ModTime().After(at) {
			have, at = image{filepath.Join(dir, e.Name()), e.Name()}, info.ModTime()
		}
	}
	return have, time.Since(at), nil
}

// tries bounds how many packages are tried: the list may be ahead of the files.
const tries = 3

func (c *cache) fetch(ctx context.Context, k *kernel, dir string) (image, error) {
	if c.packages == nil && c.failed == nil {
		c.packages, c.failed = c.list(ctx)
	}
	if c.failed != nil {
		return image{}, c.failed
	}
	names := newest(c.packages, k.pattern, k.arch())
	if len(names) == 0 {
		return image{}, fmt.Errorf("%w: %s", errNoPackage, k.pattern)
	}
	var errs []error
	for _, name := range names[:min(tries, len(names))] {
		fmt.Fprintf(c.log, "%s: fetch %s\n", k.id, name)
		got := image{filepath.Join(dir, name), name}
		err := c.download(ctx, name+":"+k.arch(), got.path)
		if err == nil {
			return got, nil
		}
		errs = append(errs, err)
	}
	return image{}, errors.Join(errs...)
}

// newest returns the names that match, the newest first.
func newest(packages []string, pattern, arch string) []string {
	var names []string
	for _, p := range packages {
		name, of, _ := strings.Cut(p, ":")
		if ok, err := path.Match(pattern, name); err == nil && ok && of == arch {
			names = append(names, name)
		}
	}
	slices.SortFunc(names, func(a, b string) int { return -compareVersions(a, b) })
	return slices.Compact(names)
}

// compareVersions compares as numbers what are digits, else byte by byte.
func compareVersions(a, b string) int {
	for a != "" && b != "" {
		na, nb := digits(a), digits(b)
		if na > 0 && nb > 0 {
			x, y := strings.TrimLeft(a[:na], "0"), strings.TrimLeft(b[:nb], "0")
			if len(x) != len(y) {
				return len(x) - len(y)
			}
			if d := strings.Compare(x, y); d != 0 {
				return d
			}
			a, b = a[na:], b[nb:]
			continue
		}
		if a[0] != b[0] {
			return int(a[0]) - int(b[0])
		}
		a, b = a[1:], b[1:]
	}
	return len(a) - len(b)
}

func digits(s string) int { return len(s) - len(strings.TrimLeft(s, "0123456789")) }

// list makes apt's private state and returns the names of all packages.
func (c *cache) list(ctx context.Context) ([]string, error) {
	if _, err := os.Stat(keyring); err != nil {
		return nil, fmt.Errorf("fetch kernels: %w (install debian-archive-keyring)", err)
	}
	apt := filepath.Join(c.dir, "apt")
	for _, d := range []string{"lists/partial", "archives/partial"} {
		if err := os.MkdirAll(filepath.Join(apt, d), 0o755); err != nil {
			return nil, err
		}
	}
	files := map[string]string{"status": "", "apt.conf": aptConf(apt), "sources.list": sourcesList()}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(apt, name), []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	if _, err := c.apt(ctx, apt, "apt-get", "-q", "-o", "APT::Update::Error-Mode=any", "update"); err != nil {
		return nil, err
	}
	text, err := c.apt(ctx, apt, "apt-cache", "dumpavail")
	if err != nil {
		return nil, err
	}
	return packageNames(bytes.NewReader(text))
}

// packageNames reads apt's list of packages.
func packageNames(r io.Reader) ([]string, error) {
	var names []string
	var name string
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		field, value, _ := strings.Cut(sc.Text(), ": ")
		switch field {
		case "Package":
			name = value
		case "Architecture":
			names = append(names, name+":"+value)
		}
	}
	return names, sc.Err()
}

func sourcesList() string {
	var b strings.Builder
	for _, s := range sources {
		fmt.Fprintf(&b, "deb [signed-by=%s arch=amd64,arm64 target=Packages] %s %s main\n", keyring, s[0], s[1])
	}
	return b.String()
}

// aptConf is apt's configuration: apt.conf(5). It knows no package as installed, and
// runs none of the machine's hooks.
func aptConf(dir string) string {
	return fmt.Sprintf(`Dir::State %[1]q;
Dir::State::Lists "%[1]s/lists";
Dir::State::status "%[1]s/status";
Dir::Cache %[1]q;
Dir::Cache::Archives "%[1]s/archives";
Dir::Etc::SourceList "%[1]s/sources.list";
Dir::Etc::SourceParts "/dev/null";
APT::Architecture "amd64";
#clear APT::Architectures;
APT::Architectures { "amd64"; "arm64"; };
APT::Sandbox::User "";
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
`, dir)
}

func (c *cache) apt(ctx context.Context, dir string, argv ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir = filepath.Join(dir, "archives")
	cmd.Env = append(os.Environ(), "APT_CONFIG="+filepath.Join(dir, "apt.conf"), "LC_ALL=C.UTF-8")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s: %w\n%s", strings.Join(argv, " "), err, tail(errs.String(), 10))
	}
	return out.Bytes(), nil
}

// download leaves a package's kernel at a path, and nothing else of it or beside it.
func (c *cache) download(ctx context.Context, pkg, to string) (err error) {
	apt := filepath.Join(c.dir, "apt")
	work, err := os.MkdirTemp(filepath.Join(apt, "archives"), "deb-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	// apt-get leaves the file in its working directory.
	cmd := exec.CommandContext(ctx, "apt-get", "-q", "download", pkg)
	cmd.Dir, cmd.Env = work, append(os.Environ(), "APT_CONFIG="+filepath.Join(apt, "apt.conf"))
	text, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("apt-get download %s: %w\n%s", pkg, err, tail(string(text), 10))
	}
	debs, err := filepath.Glob(filepath.Join(work, "*.deb"))
	if err != nil || len(debs) != 1 {
		return fmt.Errorf("apt-get download %s: left %d files (%w)", pkg, len(debs), err)
	}
	image := filepath.Join(work, "image")
	if err = extract(ctx, debs[0], image); err != nil {
		return fmt.Errorf("unpack %s: %w", pkg, err)
	}
	if err = os.RemoveAll(filepath.Dir(to)); err != nil {
		return err
	}
	if err = os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.Rename(image, to)
}

// extract writes a package's vmlinuz, which is in /boot or beside the modules.
func extract(ctx context.Context, deb, to string) (err error) {
	cmd := exec.CommandContext(ctx, "dpkg-deb", "--fsys-tarfile", deb)
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	// It ends by the closed pipe: what follows the kernel is not wanted.
	defer func() { _ = cmd.Wait() }()
	defer pipe.Close()
	for tr := tar.NewReader(pipe); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return errors.New("it has no vmlinuz")
		}
		if err != nil {
			return err
		}
		if h.Typeflag != tar.TypeReg || !strings.HasPrefix(path.Base(h.Name), "vmlinuz") {
			continue
		}
		f, err := os.Create(to)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, tr)
		return errors.Join(err, f.Close())
	}
}

// tail returns the last lines of a text, the beginning of each.
func tail(text string, lines int) string {
	all := strings.Split(strings.TrimRight(text, "\n"), "\n")
	all = all[max(0, len(all)-lines):]
	for i, line := range all {
		const wide = 300
		if len(line) > wide {
			all[i] = line[:wide] + "…"
		}
	}
	return strings.Join(all, "\n")
}
