package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// step is one program that a guest runs; its /init reads them from /plan.json.
type step struct {
	Name string
	Dir  string
	// Unless says that the step is not needed if the file has one of the words.
	Unless *unless
	Argv   []string
}

type unless struct {
	File  string
	Words []string
}

// The steps beside the suites.
const (
	stepDoctor = "doctor"
	stepTrace  = "trace"
	stepEvents = "events"
	stepGrow   = "grow"
	stepAgain  = "grow-longer"
	stepGrown  = "growth"
	stepSmall  = "trace32"
	stepPmap   = "pmap"
	stepRun    = "run"
)

// plan is what runs in a kernel's guest.
func (t *table) plan(k *kernel) []step {
	steps := []step{{Name: stepDoctor, Argv: []string{"/bin/maptrace", "doctor"}}}
	trace := step{Name: stepTrace, Argv: []string{
		"/bin/maptrace", "trace", "--json", "--verify", "--to", "/tmp/events", "--", "/bin/story",
	}}
	if k.refused != "" {
		return append(steps, trace,
			step{Name: stepPmap, Argv: []string{"/bin/maptrace", "pmap", "-x", "1"}})
	}
	for _, s := range t.suites {
		argv := []string{"/tests/" + s.name() + ".test", "-test.v"}
		if len(s.leftOut) > 0 {
			var names []string
			for name := range s.leftOut {
				names = append(names, name)
			}
			slices.Sort(names)
			argv = append(argv, "-test.skip=^("+strings.Join(names, "|")+")$")
		}
		steps = append(steps, step{Name: s.name(), Dir: "/src/" + s.dir, Argv: argv})
	}
	if k.no32 == "" {
		steps = append(steps, step{Name: stepSmall, Argv: []string{
			"/bin/maptrace", "trace", "--json", "--verify", "--summary-only", "--", "/bin/story32",
		}})
	}
	return append(steps, trace,
		step{Name: stepEvents, Argv: []string{"/bin/cat", "/tmp/events"}},
		// A dozen looks are what a verdict needs: on a busy host a guest needs longer
		// for them. On a slow one a minute would take more than a machine may.
		step{Name: stepGrow, Argv: grow("6s")},
		step{
			Name: stepAgain, Argv: grow("20s"),
			Unless: &unless{"/tmp/growth", []string{`"verdict":"leaks"`, `"verdict":"grows"`}},
		},
		step{Name: stepGrown, Argv: []string{"/bin/cat", "/tmp/growth"}})
}

func grow(length string) []string {
	return []string{
		"/bin/maptrace", "grow", "--json", "--interval", "200ms", "--smaps-budget", "100",
		"--to", "/tmp/growth", "--", "/bin/story", "leak", length,
	}
}

// payload is what all guests of an architecture have in common.
type payload struct {
	files map[string][]byte // by their paths in the guest, without the first slash
}

// build makes the programs of the guests of an architecture: static, as they have no
// libraries.
func build(ctx context.Context, root, arch string, suites []suite) (_ *payload, err error) {
	dir, err := os.MkdirTemp("", "maptrace-kernels-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	p := &payload{files: map[string][]byte{}}
	type program struct{ to, verb, pkg, arch string }
	small := map[string]string{"amd64": "386", "arm64": "arm"}
	programs := []program{
		{"init", "build", "./testdata/kernels/init", arch},
		{"bin/story", "build", "./testdata/kernels/story", arch},
		{"bin/story32", "build", "./testdata/kernels/story32", small[arch]},
		{"bin/maptrace", "build", "./cmd/maptrace", arch},
	}
	for _, s := range suites {
		programs = append(programs, program{"tests/" + s.name() + ".test", "test -c", "./" + s.dir, arch})
		if err := p.testdata(root, s.dir); err != nil {
			return nil, err
		}
	}
	for _, b := range programs {
		out := filepath.Join(dir, path.Base(b.to))
		args := append(strings.Fields(b.verb), "-trimpath", "-ldflags=-s -w", "-o", out, b.pkg)
		cmd := exec.CommandContext(ctx, "go", args...)
		cmd.Dir = root
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+b.arch)
		if text, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, text)
		}
		data, err := os.ReadFile(out)
		if err != nil {
			return nil, err
		}
		p.files[b.to] = data
	}
	return p, nil
}

// testdata takes the files that a package's tests read.
func (p *payload) testdata(root, dir string) error {
	from := filepath.Join(root, dir, "testdata")
	err := filepath.WalkDir(from, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		p.files["src/"+filepath.ToSlash(rel)] = data
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		p.files["src/"+dir+"/.keep"] = nil // the directory itself is needed
		return nil
	}
	return err
}

// initrd is the first root of a guest that runs the steps.
func (p *payload) initrd(steps []step) ([]byte, error) {
	plan, err := json.Marshal(steps)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	a := &archive{w: &out}
	made := map[string]bool{".": true}
	var parents func(string)
	parents = func(dir string) {
		if !made[dir] {
			parents(path.Dir(dir))
			a.dir(dir)
			made[dir] = true
		}
	}
	a.file("plan.json", 0o644, plan)
	names := make([]string, 0, len(p.files))
	for name := range p.files {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		parents(path.Dir(name))
		a.file(name, 0o755, p.files[name])
	}
	for _, name := range []string{"true", "sleep", "cat"} {
		a.link("bin/"+name, "/init")
	}
	return out.Bytes(), a.close()
}
