package tracer

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/maptrace/maptrace/"

// listed is what go list says of a package.
type listed struct {
	ImportPath string
	Imports    []string
	Deps       []string
}

// list asks go list about packages.
func list(t *testing.T, patterns ...string) (all []listed) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"list", "-json=ImportPath,Imports,Deps"}, patterns...)...)
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// Data flows one way, and what is above does not know what is below by name: the order of
// events and the model of what they do, what is attributed and what is judged can be had
// without a kernel side.
func TestTheLayersDoNotKnowTheKernelSide(t *testing.T) {
	t.Parallel()
	paths := []string{
		"order", "model", "event", "space", "stack", "symbol", "site", "growth", "latency", "attribution", "budget", "heap", "keeper", "malloc", "resident", "goheap", "explain", "crash",
	}
	for i := range paths {
		paths[i] = "./tracer/" + paths[i]
	}
	all := list(t, paths...)
	if len(all) != len(paths) {
		t.Fatalf("%d packages of %d", len(all), len(paths))
	}
	for _, p := range all {
		for _, d := range p.Deps {
			if d == module+"tracer" || strings.HasPrefix(d, module+"bpf") || strings.HasPrefix(d, module+"cmd") || strings.HasPrefix(d, "github.com/cilium/ebpf") {
				t.Errorf("%s depends on %s", p.ImportPath, d)
			}
		}
	}
}

// The model and what stands on it look at nothing but what they are given, and keep no
// time but that of what they are told.
func TestThePureLayersOpenNothing(t *testing.T) {
	t.Parallel()
	forbidden := []string{"os", "os/exec", "io/fs", "net", "syscall", "context", "sync", "golang.org/x/sys/unix"}
	for _, p := range list(t, "./tracer/model", "./tracer/event", "./tracer/space", "./tracer/growth", "./tracer/latency", "./tracer/attribution", "./tracer/budget", "./tracer/heap", "./tracer/keeper", "./tracer/malloc", "./tracer/goheap", "./tracer/stack", "./tracer/explain", "./tracer/crash") {
		for _, i := range p.Imports {
			if slices.Contains(forbidden, i) {
				t.Errorf("%s imports %s", p.ImportPath, i)
			}
		}
		if strings.HasSuffix(p.ImportPath, "tracer/model") && slices.Contains(p.Deps, module+"tracer/order") {
			t.Error("the model knows the order")
		}
	}
	eachFile(t, "model", func(path string, f *ast.File) {
		ast.Inspect(f, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if x, ok := sel.X.(*ast.Ident); ok && x.Name == "time" && slices.Contains([]string{"Now", "Since", "After", "NewTimer", "Sleep"}, sel.Sel.Name) {
				t.Errorf("%s uses time.%s", path, sel.Sel.Name)
			}
			return true
		})
	})
}

// Above the sources nobody asks which one it is, and of cmd only doctor looks at the kernel
// side itself.
func TestNobodyAboveAsksForTheSource(t *testing.T) {
	t.Parallel()
	files := 0
	for _, dir := range []string{"../cmd", "attribution", "export", "model", "order", "resident", "sample", "site"} {
		eachFile(t, dir, func(path string, f *ast.File) {
			files++
			for _, i := range f.Imports {
				if p, _ := strconv.Unquote(i.Path.Value); strings.HasPrefix(p, module+"bpf") && filepath.Base(path) != "doctor.go" {
					t.Errorf("%s imports %s", path, p)
				}
			}
			ast.Inspect(f, func(n ast.Node) bool {
				var is ast.Expr
				switch n := n.(type) {
				case *ast.TypeAssertExpr:
					is = n.Type
				case *ast.CaseClause:
					for _, e := range n.List {
						if isLive(e) {
							t.Errorf("%s asks for *Live", path)
						}
					}
				}
				if isLive(is) {
					t.Errorf("%s asks for *Live", path)
				}
				return true
			})
		})
	}
	if files < 50 {
		t.Errorf("only %d files were looked at", files)
	}
}

// What draws on a terminal is given what it draws, and does not know where that is from.
func TestTheLiveViewKnowsNothingOfTheTracer(t *testing.T) {
	t.Parallel()
	for _, p := range list(t, "./cmd/maptrace/internal/tui") {
		for _, d := range p.Deps {
			if strings.HasPrefix(d, module+"tracer") || strings.HasPrefix(d, module+"bpf") || strings.HasPrefix(d, "github.com/cilium/ebpf") {
				t.Errorf("%s depends on %s", p.ImportPath, d)
			}
		}
		for _, i := range p.Imports {
			if strings.HasPrefix(i, module) && i != module+"procmaps/table" && i != module+"procmaps/units" {
				t.Errorf("%s imports %s", p.ImportPath, i)
			}
		}
	}
}

// isLive tells whether an expression is the type *tracer.Live, or *tracer.Poll.
func isLive(e ast.Expr) bool {
	star, ok := e.(*ast.StarExpr)
	if !ok {
		return false
	}
	sel, ok := star.X.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	of, ok := sel.X.(*ast.Ident)
	return ok && of.Name == "tracer" && (sel.Sel.Name == "Live" || sel.Sel.Name == "Poll")
}

// eachFile parses the files below a directory that are no tests.
func eachFile(t *testing.T, dir string, do func(path string, f *ast.File)) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		do(path, f)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
