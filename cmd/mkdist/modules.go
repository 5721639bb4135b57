package main

import (
	"bytes"
	"context"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
)

// std is what Go's own packages are called as if they were a module.
const std = "std"

// licences are those of the modules that may be linked, as SPDX names them. A module
// that is not here is not handed out before somebody has read its licence.
var licences = map[string]string{
	std:                                     "BSD-3-Clause",
	"charm.land/bubbletea/v2":               "MIT",
	"github.com/charmbracelet/colorprofile": "MIT",
	"github.com/charmbracelet/ultraviolet":  "MIT",
	"github.com/charmbracelet/x/ansi":       "MIT",
	"github.com/charmbracelet/x/term":       "MIT",
	"github.com/charmbracelet/x/termios":    "MIT",
	"github.com/charmbracelet/x/windows":    "MIT",
	"github.com/cilium/ebpf":                "MIT",
	"github.com/clipperhouse/displaywidth":  "MIT",
	"github.com/clipperhouse/uax29/v2":      "MIT",
	"github.com/ianlancetaylor/demangle":    "BSD-3-Clause",
	"github.com/lucasb-eyer/go-colorful":    "MIT",
	"github.com/maptrace/maptrace":          "Apache-2.0",
	"github.com/mattn/go-runewidth":         "MIT",
	"github.com/muesli/cancelreader":        "MIT",
	"github.com/rivo/uniseg":                "MIT",
	"github.com/spf13/cobra":                "Apache-2.0",
	"github.com/spf13/pflag":                "BSD-3-Clause",
	"github.com/ulikunitz/xz":               "BSD-3-Clause",
	"github.com/xo/terminfo":                "MIT",
	"golang.org/x/arch":                     "BSD-3-Clause",
	"golang.org/x/sync":                     "BSD-3-Clause",
	"golang.org/x/sys":                      "BSD-3-Clause",
	"golang.org/x/term":                     "BSD-3-Clause",
}

func licence(module string) (string, error) {
	id, ok := licences[module]
	if !ok {
		return "", fmt.Errorf("module %s: its licence is not known to cmd/mkdist: read it and add it there", module)
	}
	return id, nil
}

// linked are the modules in a binary but for its own, std first and the others
// sorted. Its checksums are those of go.sum.
func linked(info *buildinfo.BuildInfo) ([]debug.Module, error) {
	list := []debug.Module{{Path: std, Version: goVersion(info)}}
	for _, m := range info.Deps {
		if m.Replace != nil {
			return nil, fmt.Errorf("module %s: it is replaced, by %s", m.Path, m.Replace.Path)
		}
		if m.Sum == "" {
			return nil, fmt.Errorf("module %s: it has no checksum", m.Path)
		}
		list = append(list, *m)
	}
	slices.SortFunc(list[1:], func(a, b debug.Module) int { return strings.Compare(a.Path, b.Path) })
	return list, nil
}

// goVersion is the release of Go, as in "1.26.8".
func goVersion(info *buildinfo.BuildInfo) string {
	version, _, _ := strings.Cut(strings.TrimPrefix(info.GoVersion, "go"), " ")
	return version
}

// moduleGraph tells for each module with a package in the binary which others its
// packages import.
func moduleGraph(ctx context.Context, arch string) (map[string][]string, error) {
	out, err := output(ctx, goEnv(arch), "go", "list", "-deps", "-json=ImportPath,Imports,ImportMap,Module,Standard", "./cmd/maptrace")
	if err != nil {
		return nil, err
	}
	return parseGraph(out)
}

// parseGraph reads what go list -deps -json prints, where each package comes after
// those that it imports.
func parseGraph(list []byte) (map[string][]string, error) {
	type listed struct {
		ImportPath string
		Imports    []string
		ImportMap  map[string]string
		Standard   bool
		Module     *struct{ Path string }
	}
	owner := map[string]string{"C": std}
	uses := map[string]map[string]bool{}
	for d := json.NewDecoder(bytes.NewReader(list)); ; {
		var p listed
		err := d.Decode(&p)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		module := std
		if !p.Standard {
			if p.Module == nil {
				return nil, fmt.Errorf("go list: package %s has no module", p.ImportPath)
			}
			module = p.Module.Path
		}
		owner[p.ImportPath] = module
		if uses[module] == nil {
			uses[module] = map[string]bool{}
		}
		for _, path := range p.Imports {
			if actual, ok := p.ImportMap[path]; ok {
				path = actual
			}
			other, ok := owner[path]
			if !ok && path != "unsafe" {
				return nil, fmt.Errorf("go list: package %s imports %s, which is not listed above", p.ImportPath, path)
			}
			if ok && other != module {
				uses[module][other] = true
			}
		}
	}
	sorted := make(map[string][]string, len(uses))
	for module, others := range uses {
		sorted[module] = slices.Sorted(maps.Keys(others))
	}
	return sorted, nil
}

// copyright has the licences of all that is in the binary. Most of them want to be
// handed out with it.
func copyright(ctx context.Context, info *buildinfo.BuildInfo) ([]byte, error) {
	modules, err := linked(info)
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	own, err := os.ReadFile("LICENSE")
	if err != nil {
		return nil, err
	}
	bpf, err := os.ReadFile("bpf/headers/LICENSE.BSD-2-Clause")
	if err != nil {
		return nil, err
	}
	const head = `maptrace, https://github.com/maptrace/maptrace

Copyright: the maptrace authors
License: Apache-2.0. Its text is in the file LICENSE beside this one; on Debian
systems it is /usr/share/common-licenses/Apache-2.0.

The BPF programs that the binary loads (bpf/*.c, bpf/*.h in the source) may be used
under GPL-2.0-only or BSD-2-Clause, as you like. They are compiled with headers of
libbpf, Copyright (c) Facebook and others, LGPL-2.1 or BSD-2-Clause.

The binary also contains these, whose licences follow:

`
	text.WriteString(head)
	sections := []struct{ title, text string }{
		{"BPF programs and libbpf's headers: BSD-2-Clause", string(bpf)},
	}
	for _, m := range modules {
		id, err := licence(m.Path)
		if err != nil {
			return nil, err
		}
		dir, err := moduleDir(ctx, m)
		if err != nil {
			return nil, err
		}
		terms, err := legalTexts(dir)
		if err != nil {
			return nil, fmt.Errorf("module %s: %w", m.Path, err)
		}
		if bytes.Equal(apacheTerms([]byte(terms)), apacheTerms(own)) {
			terms = "The text is that of maptrace's licence, see above."
		}
		title := fmt.Sprintf("%s %s: %s", m.Path, m.Version, id)
		if m.Path == std {
			title = fmt.Sprintf("Go %s, its runtime and standard library: %s", m.Version, id)
		}
		fmt.Fprintf(&text, "  %s\n", title)
		sections = append(sections, struct{ title, text string }{title, terms})
	}
	for _, s := range sections {
		fmt.Fprintf(&text, "\n%s\n%s\n\n%s\n", s.title, strings.Repeat("=", len(s.title)), strings.Trim(s.text, "\n"))
	}
	return text.Bytes(), nil
}

// apacheTerms is what a copy of the Apache licence has in common with others: no
// appendix, which tells how to apply it, and no line breaks.
func apacheTerms(text []byte) []byte {
	terms, _, _ := bytes.Cut(text, []byte("END OF TERMS AND CONDITIONS"))
	return bytes.Join(bytes.Fields(terms), []byte(" "))
}

// moduleDir is where a module's files are.
func moduleDir(ctx context.Context, m debug.Module) (string, error) {
	args := []string{"list", "-m", "-f", "{{.Dir}}", m.Path}
	if m.Path == std {
		args = []string{"env", "GOROOT"}
	}
	out, err := output(ctx, append(os.Environ(), "GOFLAGS=", "GOWORK=off"), "go", args...)
	return string(bytes.TrimSpace(out)), err
}

// legalTexts are the licence in a directory, and what else must be handed on.
func legalTexts(dir string) (string, error) {
	entries, err := os.ReadDir(dir) // sorted
	if err != nil {
		return "", err
	}
	var texts []string
	found := false
	for _, e := range entries {
		name, _, _ := strings.Cut(strings.ToUpper(e.Name()), ".")
		if e.IsDir() || !slices.Contains([]string{"LICENSE", "LICENCE", "COPYING", "NOTICE", "PATENTS"}, name) {
			continue
		}
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return "", err
		}
		found = found || name[0] != 'N' && name[0] != 'P'
		texts = append(texts, strings.Trim(string(data), "\n"))
	}
	if !found {
		return "", fmt.Errorf("licence: no file of it in %s", dir)
	}
	return strings.Join(texts, "\n\n"), nil
}
