package heaps

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/maptrace/maptrace/testdata/leaks"
	"github.com/maptrace/maptrace/testdata/tool"
)

//go:embed *.c *.cc *.h *.rs *.py
var sources embed.FS

// libraries are the allocators by the files that they are linked or preloaded from.
var libraries = map[string]string{
	"jemalloc": "libjemalloc.so.2",
	"tcmalloc": "libtcmalloc_minimal.so.4",
	"mimalloc": "libmimalloc.so.2",
}

// Built is a program that can be run.
type Built struct {
	Case
	argv []string
	// named has files with the names of those that were stripped, by the base name of
	// what runs.
	named map[string]string
}

// Argv is the command for a run of some length at some rate.
func (b *Built) Argv(run time.Duration, rate int) []string {
	return leaks.Args(b.argv, run, rate)
}

// Named returns the files that have the names of the program's own functions.
func (b *Built) Named(dir string) []string {
	if b.File == "heapext.py" {
		return []string{filepath.Join(dir, "heapext.so")}
	}
	if len(b.named) == 0 {
		return []string{b.argv[len(b.argv)-2]}
	}
	return slices.Collect(maps.Values(b.named))
}

// compiler is the command that the program is built with.
func (c *Case) compiler() string {
	switch filepath.Ext(c.File) {
	case ".cc":
		return "g++"
	case ".rs":
		return "rustc"
	case "":
		return "go"
	}
	if c.Allocator == "musl" {
		return "musl-gcc"
	}
	return "gcc"
}

// Missing tells what the program needs and is not installed.
func (c *Case) Missing(ctx context.Context) error {
	needs := []string{c.compiler()}
	if c.Stripped {
		needs = append(needs, "strip")
	}
	if filepath.Ext(c.File) == ".py" {
		needs = append(needs, "python3")
	}
	for _, name := range needs {
		if _, err := tool.Path(name); err != nil {
			return err
		}
	}
	if filepath.Ext(c.File) == ".py" {
		include, err := pythonInclude(ctx)
		if err != nil {
			return err
		}
		if _, err := os.Stat(filepath.Join(include, "Python.h")); err != nil {
			return errors.New("needs Python.h, which is not installed")
		}
	}
	if c.allocatorFile() == "" {
		return nil
	}
	_, err := LibraryPath(ctx, c.allocatorFile())
	return err
}

// allocatorFile is the file of the allocator, if that is a library.
func (c *Case) allocatorFile() string {
	if c.How == Within {
		return "lib" + c.Allocator + ".a"
	}
	return libraries[c.Allocator]
}

// LibraryPath is where the compiler finds a library.
func LibraryPath(ctx context.Context, name string) (string, error) {
	out, err := exec.CommandContext(ctx, "gcc", "-print-file-name="+name).Output()
	if path := strings.TrimSpace(string(out)); err == nil && filepath.IsAbs(path) {
		return path, nil
	}
	return "", fmt.Errorf("needs %s, which is not installed", name)
}

func pythonInclude(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "python3", "-c", "import sysconfig; print(sysconfig.get_path('include'))").Output()
	return string(bytes.TrimSpace(out)), err
}

// Build builds the program in dir, once for all cases that share it.
func (c *Case) Build(ctx context.Context, dir string) (*Built, error) {
	if err := write(dir); err != nil {
		return nil, err
	}
	b := &Built{Case: *c, named: make(map[string]string)}
	bin, err := b.compile(ctx, dir)
	if err != nil {
		return nil, err
	}
	if filepath.Ext(c.File) == ".py" {
		b.argv = []string{"python3", filepath.Join(dir, c.File), c.Mode}
		return b, nil
	}
	if bin, err = b.strip(ctx, bin); err != nil {
		return nil, err
	}
	b.argv = []string{bin, c.Mode}
	if c.How == Preloaded {
		lib, err := LibraryPath(ctx, c.allocatorFile())
		if err != nil {
			return nil, err
		}
		b.argv = slices.Concat([]string{"env", "LD_PRELOAD=" + lib}, b.argv)
	}
	return b, nil
}

// write puts the sources into dir.
func write(dir string) error {
	files, err := sources.ReadDir(".")
	if err != nil {
		return err
	}
	for _, f := range files {
		text, err := sources.ReadFile(f.Name())
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, f.Name()), text, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// compile makes the program, or the library that it consists of, with its names.
func (b *Built) compile(ctx context.Context, dir string) (string, error) {
	// As distributions do, and strict. Fields that are not mentioned are zero.
	flags := []string{"-O2", "-fomit-frame-pointer", "-pthread", "-Wall", "-Wextra", "-Werror", "-Wno-missing-field-initializers"}
	source := filepath.Join(dir, b.File)
	bin := filepath.Join(dir, strings.TrimSuffix(b.File, filepath.Ext(b.File)))
	switch b.compiler() {
	case "go":
		return bin, tool.Make(ctx, bin, "go", "build", "-trimpath", "-o", bin, "github.com/maptrace/maptrace/testdata/heaps/"+b.File)
	case "rustc":
		return bin, tool.Make(ctx, bin, "rustc", "--edition", "2021", "-C", "opt-level=2", "-D", "warnings", "-o", bin, source)
	}
	if filepath.Ext(b.File) == ".py" {
		include, err := pythonInclude(ctx)
		if err != nil {
			return "", err
		}
		lib := filepath.Join(dir, "heapext.so")
		return lib, tool.Make(ctx, lib, slices.Concat([]string{"gcc"}, flags,
			[]string{"-fPIC", "-shared", "-I" + include, "-o", lib, filepath.Join(dir, "heapext.c")})...)
	}
	var last []string // after the source
	switch b.How {
	case Linked:
		last = []string{"-l:" + b.allocatorFile()}
		bin += "-" + b.Allocator
	case Within:
		last = []string{"-l:" + b.allocatorFile(), "-lm", "-ldl", "-lstdc++"}
		bin += "-with-" + b.Allocator
	case Static:
		flags = append(flags, "-static")
		bin += "-" + b.Allocator + "-static"
	}
	if b.Exported {
		flags = append(flags, "-rdynamic")
		bin += "-exporting"
	}
	if b.File == "host.c" {
		lib, err := b.plugin(ctx, dir, flags)
		if err != nil {
			return "", err
		}
		last = append(last, lib, "-Wl,-rpath,$ORIGIN")
	}
	return bin, tool.Make(ctx, bin, slices.Concat([]string{b.compiler()}, flags, []string{"-o", bin, source}, last)...)
}

// plugin makes the library of host.c, stripped.
func (b *Built) plugin(ctx context.Context, dir string, flags []string) (string, error) {
	whole, lib := filepath.Join(dir, "plugin-with-names"), filepath.Join(dir, "libplugin.so")
	err := tool.Make(ctx, whole, slices.Concat([]string{b.compiler()}, flags,
		[]string{"-fPIC", "-shared", "-Wl,-soname,libplugin.so", "-o", whole, filepath.Join(dir, "plugin.c")})...)
	if err != nil {
		return "", err
	}
	b.named[filepath.Base(lib)] = whole
	return lib, tool.Make(ctx, lib, "strip", "-o", lib, whole)
}

// strip makes a program without names of one that has them, if the case wants that.
func (b *Built) strip(ctx context.Context, bin string) (string, error) {
	if !b.Stripped {
		return bin, nil
	}
	stripped := bin + "-stripped"
	b.named[filepath.Base(stripped)] = bin
	return stripped, tool.Make(ctx, stripped, "strip", "-o", stripped, bin)
}
