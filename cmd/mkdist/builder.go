package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"debug/buildinfo"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxBinary is how large a binary may be.
const maxBinary = 15 << 20

// architectures are those that are built, as Go calls them.
var architectures = []string{"amd64", "arm64"}

// builder makes a directory of what is to be handed out.
type builder struct {
	work string // for what is not; empty at first
	out  string
	nfpm []string // the command that makes packages; with none, none are made

	version string    // without the "v" of the tag
	epoch   time.Time // the time of everything
}

func (b *builder) run(ctx context.Context) error {
	if err := os.RemoveAll(b.out); err != nil {
		return err
	}
	if err := os.MkdirAll(b.out, 0o755); err != nil {
		return err
	}
	var builds []*build
	for _, arch := range architectures {
		bd, err := b.compile(ctx, arch)
		if err != nil {
			return fmt.Errorf("build for %s: %w", arch, err)
		}
		builds = append(builds, bd)
	}
	share, err := b.manual(ctx)
	if err != nil {
		return fmt.Errorf("manual: %w", err)
	}
	for _, bd := range builds {
		if err := b.release(ctx, bd, share); err != nil {
			return fmt.Errorf("release for %s: %w", bd.arch, err)
		}
	}
	return writeSums(b.out)
}

// build is the binary for one architecture.
type build struct {
	arch string
	path string
	info *buildinfo.BuildInfo
	// uses has, for each linked module, "std" among them, the modules whose packages
	// its packages import.
	uses map[string][]string
}

// goEnv is the environment of the go command: ours, without what would change the
// binary from outside.
func goEnv(arch string) []string {
	return append(os.Environ(), "GOOS=linux", "GOARCH="+arch, "CGO_ENABLED=0", "GOAMD64=v1", "GOARM64=v8.0",
		"GOFLAGS=", "GOEXPERIMENT=", "GOFIPS140=off", "GOWORK=off", "GO_EXTLINK_ENABLED=0")
}

// compile builds the binary, and takes version and time from what it says of itself.
func (b *builder) compile(ctx context.Context, arch string) (*build, error) {
	bd := &build{arch: arch, path: filepath.Join(b.work, "maptrace."+arch)}
	// The build ID tells builds apart, of which there is to be one.
	if _, err := output(ctx, goEnv(arch), "go", "build", "-trimpath", "-buildvcs=true", "-ldflags=-s -w -buildid=",
		"-o", bd.path, "./cmd/maptrace"); err != nil {
		return nil, err
	}
	fi, err := os.Stat(bd.path)
	if err != nil {
		return nil, err
	}
	if fi.Size() > maxBinary {
		return nil, fmt.Errorf("binary: %d bytes, more than %d", fi.Size(), maxBinary)
	}
	fmt.Fprintf(os.Stderr, "maptrace for %s: %.1f MiB\n", arch, float64(fi.Size())/(1<<20))
	if bd.info, err = buildinfo.ReadFile(bd.path); err != nil {
		return nil, err
	}
	if bd.uses, err = moduleGraph(ctx, arch); err != nil {
		return nil, err
	}
	b.version = strings.TrimPrefix(bd.info.Main.Version, "v")
	if b.version == "" || b.version == "(devel)" {
		return nil, errors.New("the binary has no version: this is no git work tree, or git does not trust its owner")
	}
	b.epoch, err = commitTime(bd.info, os.Getenv("SOURCE_DATE_EPOCH"))
	return bd, err
}

// commitTime is when the commit was made that was built, unless epoch, in seconds,
// says otherwise.
func commitTime(info *buildinfo.BuildInfo, epoch string) (time.Time, error) {
	if epoch != "" {
		sec, err := strconv.ParseInt(epoch, 10, 64)
		if err != nil {
			return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
		}
		return time.Unix(sec, 0).UTC(), nil
	}
	t, err := time.Parse(time.RFC3339, setting(info, "vcs.time"))
	if err != nil {
		return time.Time{}, fmt.Errorf("time of the commit: %w", err)
	}
	return t.UTC(), nil
}

func setting(info *buildinfo.BuildInfo, key string) string {
	for _, s := range info.Settings {
		if s.Key == key {
			return s.Value
		}
	}
	return ""
}

// manual makes manual pages and completions, by their paths below /usr/share. Pages
// are not compressed.
func (b *builder) manual(ctx context.Context) (map[string][]byte, error) {
	dir := filepath.Join(b.work, "share")
	// It runs here, whatever it is for; the commands are the same everywhere.
	env := append(os.Environ(), "GOFLAGS=", "GOOS=", "GOARCH=", "CGO_ENABLED=0", b.sourceDate())
	if _, err := output(ctx, env, "go", "run", "-trimpath", "-tags", "manual", "./cmd/maptrace", "-version", b.version, dir); err != nil {
		return nil, err
	}
	return readTree(dir)
}

func (b *builder) sourceDate() string {
	return "SOURCE_DATE_EPOCH=" + strconv.FormatInt(b.epoch.Unix(), 10)
}

// release makes all files of one architecture.
func (b *builder) release(ctx context.Context, bd *build, share map[string][]byte) error {
	binary, err := os.ReadFile(bd.path)
	if err != nil {
		return err
	}
	files, err := b.files(ctx, bd, binary, share)
	if err != nil {
		return err
	}
	name := fmt.Sprintf("maptrace_%s_linux_%s", b.version, bd.arch)
	archive, err := tarball(name, files, b.epoch)
	if err != nil {
		return err
	}
	sbom, err := billOfMaterials(bd, binary, b.version, b.epoch)
	if err != nil {
		return err
	}
	for suffix, data := range map[string][]byte{".tar.gz": archive, ".cdx.json": sbom} {
		if err := writeFile(filepath.Join(b.out, name+suffix), data, 0o644); err != nil {
			return err
		}
	}
	if err := writeFile(filepath.Join(b.out, name), binary, 0o755); err != nil {
		return err
	}
	if len(b.nfpm) == 0 {
		return nil
	}
	return b.packages(ctx, bd, files)
}

// file is a file to be installed: its path is below the prefix, as in
// "bin/maptrace".
type file struct {
	path string
	mode os.FileMode
	data []byte
}

// files are what is installed, sorted by path.
func (b *builder) files(ctx context.Context, bd *build, binary []byte, share map[string][]byte) ([]file, error) {
	notices, err := copyright(ctx, bd.info)
	if err != nil {
		return nil, err
	}
	list := []file{{"bin/maptrace", 0o755, binary}, {"share/doc/maptrace/copyright", 0o644, notices}}
	for _, name := range []string{"LICENSE", "README.md"} {
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		list = append(list, file{"share/doc/maptrace/" + name, 0o644, data})
	}
	for path, data := range share {
		list = append(list, file{"share/" + path, 0o644, data})
	}
	slices.SortFunc(list, func(a, b file) int { return strings.Compare(a.path, b.path) })
	return list, nil
}

// writeSums writes SHA256SUMS, for "sha256sum -c", of the files in dir.
func writeSums(dir string) error {
	entries, err := os.ReadDir(dir) // sorted
	if err != nil {
		return err
	}
	var sums bytes.Buffer
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return err
		}
		fmt.Fprintf(&sums, "%x  %s\n", sha256.Sum256(data), e.Name())
	}
	return writeFile(filepath.Join(dir, "SHA256SUMS"), sums.Bytes(), 0o644)
}

// writeFile writes a file whose mode does not depend on the umask.
func writeFile(path string, data []byte, mode os.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(path, data, mode); err != nil {
		return err
	}
	return os.Chmod(path, mode)
}

// readTree reads all files below dir.
func readTree(dir string) (map[string][]byte, error) {
	files := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err == nil {
			files[name], err = os.ReadFile(path)
		}
		return err
	})
	return files, err
}

// output runs a command and returns what it prints; its error has what it says.
func output(ctx context.Context, env []string, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = env
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w\n%s", name, args[0], err, bytes.TrimSpace(stderr.Bytes()))
	}
	return out, nil
}
