package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/maptrace/maptrace/testdata/tool"
)

var noon = time.Date(2026, 2, 3, 12, 0, 0, 0, time.UTC)

func TestAnArchiveSaysNothingOfWhoMadeItOrWhen(t *testing.T) {
	t.Parallel()
	files := []file{{"bin/maptrace", 0o755, []byte("program")}, {"share/doc/a", 0o644, []byte("text")}, {"share/doc/b", 0o644, nil}}
	data, err := tarball("top", files, noon)
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if !z.ModTime.IsZero() || z.Name != "" {
		t.Errorf("gzip has a time or a name: %+v", z.Header)
	}
	type entry struct {
		Name string
		Mode int64
		Data string
	}
	var got []entry
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if h.Uid != 0 || h.Gid != 0 || h.Uname != "" || h.Gname != "" || !h.ModTime.Equal(noon) || !h.AccessTime.IsZero() {
			t.Errorf("%s tells more than it should: %+v", h.Name, h)
		}
		got = append(got, entry{h.Name, h.Mode, string(text)})
	}
	want := []entry{
		{"top/", 0o755, ""},
		{"top/bin/", 0o755, ""},
		{"top/bin/maptrace", 0o755, "program"},
		{"top/share/", 0o755, ""},
		{"top/share/doc/", 0o755, ""},
		{"top/share/doc/a", 0o644, "text"},
		{"top/share/doc/b", 0o644, ""},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestPackageVersionsSortAsTheirReleasesDo(t *testing.T) {
	t.Parallel()
	dpkg := tool.Need(t, "dpkg")
	rising := []string{
		"0.0.0-20261125111125-1a2b67753189", "0.0.0-20261126000000-0a2b67753189", "0.9.0-rc.1", "0.9.0",
		"0.9.1-0.20261127000000-002b788b7b42", "0.9.1-0.20261127000000-002b788b7b42+dirty", "0.9.1", "0.10.0",
	}
	for i := range len(rising) - 1 {
		a, b := packageVersion(rising[i]), packageVersion(rising[i+1])
		if out, err := exec.Command(dpkg, "--compare-versions", a, "lt", b).CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%s is not before %s: %v %s", a, b, err, out)
		}
	}
}

func TestDistributionsGetFilesWhereTheyLookForThem(t *testing.T) {
	t.Parallel()
	files := []file{
		{"bin/maptrace", 0o755, nil},
		{"share/doc/maptrace/LICENSE", 0o644, nil},
		{"share/doc/maptrace/README.md", 0o644, nil},
		{"share/doc/maptrace/copyright", 0o644, nil},
		{"share/man/man1/maptrace.1", 0o644, []byte("page")},
		{"share/zsh/site-functions/_maptrace", 0o644, nil},
	}
	for packager, want := range map[string][]string{
		"deb": {
			"usr/bin/maptrace", "usr/share/doc/maptrace/README.md", "usr/share/doc/maptrace/copyright",
			"usr/share/man/man1/maptrace.1.gz", "usr/share/zsh/vendor-completions/_maptrace",
			"usr/share/doc/maptrace/changelog.gz", "usr/share/lintian/overrides/maptrace",
		},
		"rpm": {
			"usr/bin/maptrace", "usr/share/licenses/maptrace/LICENSE", "usr/share/doc/maptrace/README.md",
			"usr/share/licenses/maptrace/copyright", "usr/share/man/man1/maptrace.1.gz", "usr/share/zsh/site-functions/_maptrace",
		},
	} {
		list, err := layout(packager, files, "1.0.0", noon)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, f := range list {
			got = append(got, f.path)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: -want +got:\n%s", packager, diff)
		}
	}
}

func TestTheTimeIsTheCommitsUnlessAskedFor(t *testing.T) {
	t.Parallel()
	info := &buildinfo.BuildInfo{Settings: []debug.BuildSetting{{Key: "vcs.time", Value: "2026-02-03T13:00:00+01:00"}}}
	if got, err := commitTime(info, ""); err != nil || !got.Equal(noon) || got.Location() != time.UTC {
		t.Errorf("got %v, %v", got, err)
	}
	if got, err := commitTime(info, "1700000000"); err != nil || got.Unix() != 1700000000 {
		t.Errorf("got %v, %v", got, err)
	}
	for _, epoch := range []string{"yesterday", "1.5"} {
		if _, err := commitTime(info, epoch); err == nil {
			t.Errorf("SOURCE_DATE_EPOCH=%s is taken", epoch)
		}
	}
	if _, err := commitTime(&buildinfo.BuildInfo{}, ""); err == nil {
		t.Error("a binary that knows no commit has a time")
	}
}

// ourGraph is the graph of the command as it is in the tree, on amd64.
func ourGraph(t *testing.T) map[string][]string {
	t.Helper()
	t.Chdir("../..")
	graph, err := moduleGraph(t.Context(), "amd64")
	if err != nil {
		t.Fatal(err)
	}
	return graph
}

func TestEveryLinkedModuleHasALicenceThatWeKnow(t *testing.T) {
	for module := range ourGraph(t) {
		if _, err := licence(module); err != nil {
			t.Error(err)
		}
	}
	if _, err := licence("example.org/unread"); err == nil {
		t.Error("so has one that nobody has read")
	}
}

func TestTheBillListsWhatIsLinkedWithItsChecksums(t *testing.T) {
	graph := ourGraph(t)
	sums, err := os.ReadFile("go.sum")
	if err != nil {
		t.Fatal(err)
	}
	info := &buildinfo.BuildInfo{GoVersion: "go1.26.8 X:something", Main: debug.Module{Path: "github.com/maptrace/maptrace"}}
	for module := range graph {
		m := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(module) + ` (\S+) (h1:\S+)$`).FindSubmatch(sums)
		if m != nil {
			info.Deps = append(info.Deps, &debug.Module{Path: module, Version: string(m[1]), Sum: string(m[2])})
		}
	}
	binary := []byte("program")
	bd := &build{arch: "arm64", info: info, uses: graph}
	text, err := billOfMaterials(bd, binary, "1.0.0", noon)
	if err != nil {
		t.Fatal(err)
	}
	var b bom
	if err := json.Unmarshal(text, &b); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(binary)
	main := b.Metadata.Component
	if main.PURL != "pkg:golang/github.com/maptrace/maptrace@v1.0.0?goarch=arm64&goos=linux" || main.Hashes[0].Content != hex.EncodeToString(sum[:]) {
		t.Errorf("it is of %+v", main)
	}
	if b.Metadata.Timestamp != "2026-02-03T12:00:00Z" || !regexp.MustCompile(`^urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`).MatchString(b.Serial) {
		t.Errorf("made at %s, number %s", b.Metadata.Timestamp, b.Serial)
	}
	if first := b.Components[0]; first.PURL != "pkg:golang/std@1.26.8" || len(first.Hashes) != 0 {
		t.Errorf("Go is %+v", first)
	}
	refs := []string{main.Ref}
	for _, c := range b.Components {
		refs = append(refs, c.Ref)
		if c.Name != std && (len(c.Hashes) != 1 || len(c.Hashes[0].Content) != 64 || !bytes.Contains(sums, []byte(c.Name+" "+c.Version+" "+c.Properties[0].Value+"\n"))) {
			t.Errorf("%s has not the checksum of go.sum: %+v", c.Name, c)
		}
	}
	if len(refs) != len(graph) || len(b.Dependencies) != len(graph) {
		t.Errorf("%d components, %d dependencies, but %d modules", len(refs), len(b.Dependencies), len(graph))
	}
	for _, d := range b.Dependencies {
		for _, ref := range append(d.DependsOn, d.Ref) {
			if !slices.Contains(refs, ref) {
				t.Errorf("%s needs %s, which is no component", d.Ref, ref)
			}
		}
	}

	info.Deps = info.Deps[1:]
	if _, err := billOfMaterials(bd, binary, "1.0.0", noon); err == nil {
		t.Error("a module that the binary does not own up to is not missed")
	}
}

func TestModulesThatAreNotAsInGoSumAreRefused(t *testing.T) {
	t.Parallel()
	for want, m := range map[string]*debug.Module{
		"replaced":    {Path: "example.org/a", Version: "v1.0.0", Sum: "h1:x", Replace: &debug.Module{Path: "../a"}},
		"no checksum": {Path: "example.org/a", Version: "v1.0.0"},
	} {
		if _, err := linked(&buildinfo.BuildInfo{Deps: []*debug.Module{m}}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
	var c component
	for _, sum := range []string{"", "h1:", "h1:AAAA", "h2:v2ktp0roffpMOj2MMf3idtCQZOsAoC4BJbAJN+ke2bY=", "h1:v2ktp0roffpMOj2MMf3idtCQZOsAoC4BJbAJN+ke2b!"} {
		if err := c.addSum(sum); err == nil {
			t.Errorf("%q passes for a checksum", sum)
		}
	}
}

func TestAModulesGraphIsThatOfItsPackages(t *testing.T) {
	t.Parallel()
	got, err := parseGraph([]byte(`
{"ImportPath": "unsafe", "Standard": true}
{"ImportPath": "vendor/x", "Standard": true, "Imports": ["unsafe"]}
{"ImportPath": "net", "Standard": true, "Imports": ["C", "x"], "ImportMap": {"x": "vendor/x"}}
{"ImportPath": "b.org/b", "Module": {"Path": "b.org/b"}, "Imports": ["net"]}
{"ImportPath": "a.org/a/in", "Module": {"Path": "a.org/a"}, "Imports": ["b.org/b"]}
{"ImportPath": "a.org/a", "Module": {"Path": "a.org/a"}, "Imports": ["a.org/a/in", "net"]}
`))
	want := map[string][]string{"std": nil, "b.org/b": {"std"}, "a.org/a": {"b.org/b", "std"}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v; -want +got:\n%s", err, diff)
	}
	for _, bad := range []string{`{`, `{"ImportPath": "a.org/a"}`, `{"ImportPath": "a.org/a", "Module": {"Path": "a.org/a"}, "Imports": ["net"]}`} {
		if _, err := parseGraph([]byte(bad)); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
}

func TestLicencesAreHandedOut(t *testing.T) {
	t.Chdir("../..")
	info := &buildinfo.BuildInfo{GoVersion: "go1.26.8", Deps: []*debug.Module{
		{Path: "github.com/spf13/pflag", Version: "v1.0.10", Sum: "h1:x"},
		{Path: "github.com/spf13/cobra", Version: "v1.10.2", Sum: "h1:x"},
	}}
	text, err := copyright(t.Context(), info)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"Copyright (c) 2012 Alex Ogier", "\nGo 1.26.8, its runtime and standard library: BSD-3-Clause\n===", "BSD-2-Clause",
		"github.com/spf13/cobra v1.10.2: Apache-2.0\n==========================================\n\nThe text is that of maptrace's licence",
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %q in:\n%s", want, text)
		}
	}
	if strings.Contains(string(text), "TERMS AND CONDITIONS FOR USE") {
		t.Error("the Apache licence is there in full, which Debian does not want")
	}
	if _, err := legalTexts(t.TempDir()); err == nil {
		t.Error("a module without a licence is handed out")
	}
}
