package hygiene

import (
	"fmt"
	"go/ast"
	"go/token"
	"go/types"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/tools/go/packages"
)

const module = "headroom"

// load reads every package of the module once, types and comments included.
var load = sync.OnceValues(func() ([]*packages.Package, error) {
	cfg := &packages.Config{
		Mode: packages.NeedName | packages.NeedFiles | packages.NeedImports | packages.NeedTypes |
			packages.NeedSyntax | packages.NeedTypesInfo | packages.NeedDeps,
		Dir:        "../..",
		BuildFlags: []string{"-tags=libvirt_dlopen"},
		Fset:       fset,
	}
	return packages.Load(cfg, "./...")
})

var fset = token.NewFileSet()

func all(t *testing.T) []*packages.Package {
	t.Helper()
	pkgs, err := load()
	if err != nil {
		t.Fatal(err)
	}
	if len(pkgs) < 10 {
		t.Fatalf("only %d packages found", len(pkgs))
	}
	for _, p := range pkgs {
		for _, e := range p.Errors {
			t.Fatalf("%s: %v", p.PkgPath, e)
		}
	}
	return pkgs
}

// folder is the package's path below the module.
func folder(p *packages.Package) string {
	return strings.TrimPrefix(strings.TrimPrefix(p.PkgPath, module), "/")
}

// within says whether path is dir or below it.
func within(path, dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }

// ban forbids what lies below from to import anything at or below to.
type ban struct{ from, to, why string }

var bans = []ban{
	{"bpf", "headroom/predict", "a sample knows nothing of what is made of it"},
	{"bpf", "headroom/planner", "a sample knows nothing of what is made of it"},
	{"bpf", "headroom/mesh", "sampling must work on a host that stands alone"},
	{"bpf", "headroom/agent", "the agent joins the folders; nothing points back at it"},
	{"predict", "headroom/bpf", "a forecast is of a series, whatever measured it"},
	{"predict", "headroom/planner", "a forecast does not know what is decided on it"},
	{"predict", "headroom/mesh", "predict is usable by itself"},
	{"predict", "headroom/agent", "the agent joins the folders; nothing points back at it"},
	{"planner", "headroom/bpf", "a decision is a function of values"},
	{"planner", "headroom/mesh", "gossip only hints: it reaches the planner as values"},
	{"planner", "headroom/agent", "the agent joins the folders; nothing points back at it"},
	{"mesh", "headroom/bpf", "the mesh carries bytes"},
	{"mesh", "headroom/predict", "the mesh carries bytes"},
	{"mesh", "headroom/planner", "the mesh carries bytes"},
	{"mesh", "headroom/agent", "the agent joins the folders; nothing points back at it"},
	{"agent/api", "headroom/mesh", "the socket answers from the agent's own words"},
	{"agent/api", "headroom/planner", "wire types must not change with the planner's"},
	{"agent/history", "headroom/planner", "the store keeps bytes"},
	{"agent/host", "headroom/planner", "the host's status is measured, not judged"},
	{"agent/hypervisor", "headroom/planner", "the driver does what it is told"},
	{"agent/handover", "headroom/mesh", "messages leave through a function, so that the desk runs without a network"},
	{"agent/handover", "headroom/agent/history", "the journal is an interface, so that its failures can be tested"},
}

// pure lists what the pure folders must not use: no clock, no randomness of
// their own, no I/O, no goroutine.
var pure = []string{"os", "net", "io/fs", "syscall", "log", "log/slog", "sync", "context", "crypto/rand", "runtime", "unsafe"}

// homes says in which folder each library lives.
var homes = map[string][]string{
	"github.com/cilium/ebpf":          {"bpf", "tests/bench"},
	"github.com/hashicorp/serf":       {"mesh"},
	"github.com/hashicorp/memberlist": {"mesh"},
	"github.com/dgraph-io/badger":     {"agent/history"},
	"libvirt.org/go/libvirt":          {"agent/hypervisor", "tests/bench"},
	"libvirt.org/go/libvirtxml":       {"agent/hypervisor", "tests/lab"},
}

func TestImports(t *testing.T) {
	for _, p := range all(t) {
		dir := folder(p)
		for imported := range p.Imports {
			for _, b := range bans {
				if within(dir, b.from) && within(imported, b.to) {
					t.Errorf("%s imports %s: %s", dir, imported, b.why)
				}
			}
			for lib, dirs := range homes {
				ok := slices.ContainsFunc(dirs, func(d string) bool { return within(dir, d) })
				if within(imported, lib) && !ok {
					t.Errorf("%s imports %s, which lives in %v alone", dir, imported, dirs)
				}
			}
			if (within(dir, "predict") || within(dir, "planner")) && slices.Contains(pure, imported) {
				t.Errorf("%s imports %s: the folder is pure", dir, imported)
			}
		}
	}
}

// TestPureFoldersStartNothing looks for goroutines and clocks, which imports do
// not show.
func TestPureFoldersStartNothing(t *testing.T) {
	clocks := []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "NewTimer", "NewTicker", "Tick"}
	for _, p := range all(t) {
		if dir := folder(p); !within(dir, "predict") && !within(dir, "planner") {
			continue
		}
		for _, f := range p.Syntax {
			ast.Inspect(f, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.GoStmt:
					t.Errorf("%s: a goroutine in a pure folder", fset.Position(n.Pos()))
				case *ast.SelectorExpr:
					obj := p.TypesInfo.Uses[n.Sel]
					if fn, ok := obj.(*types.Func); ok && fn.Pkg() != nil && fn.Pkg().Path() == "time" &&
						fn.Signature().Recv() == nil && slices.Contains(clocks, fn.Name()) {
						t.Errorf("%s: time.%s in a pure folder", fset.Position(n.Pos()), fn.Name())
					} else if ok && fn.Pkg() != nil && strings.HasPrefix(fn.Pkg().Path(), "math/rand") &&
						fn.Signature().Recv() == nil && !strings.HasPrefix(fn.Name(), "New") {
						t.Errorf("%s: rand.%s draws from the process's own randomness in a pure folder", fset.Position(n.Pos()), fn.Name())
					}
				}
				return true
			})
		}
	}
}

// TestLibrariesStayHome looks at every exported declaration for types of the
// libraries that one folder hides from the others.
func TestLibrariesStayHome(t *testing.T) {
	for _, p := range all(t) {
		if strings.Contains(p.PkgPath, "/internal/") || p.Types.Name() == "main" { // nobody can import these
			continue
		}
		scope := p.Types.Scope()
		for _, name := range scope.Names() {
			if obj := scope.Lookup(name); obj.Exported() {
				for _, leak := range leaks(obj) {
					t.Errorf("%s.%s shows %s to other folders", p.PkgPath, name, leak)
				}
			}
		}
	}
}

// leaks lists the library types in the exported surface of an object.
func leaks(obj types.Object) []string {
	var out []string
	look := func(t types.Type) {
		text := types.TypeString(t, nil)
		for lib := range homes {
			if strings.Contains(text, lib) {
				out = append(out, text)
			}
		}
	}
	named, ok := obj.Type().(*types.Named)
	if _, isType := obj.(*types.TypeName); !isType || !ok {
		look(obj.Type())
		return out
	}
	switch u := named.Underlying().(type) {
	case *types.Struct:
		for f := range u.Fields() {
			if f.Exported() {
				look(f.Type())
			}
		}
	case *types.Interface:
		for m := range u.Methods() {
			look(m.Type())
		}
	default:
		look(u)
	}
	for m := range named.Methods() {
		if m.Exported() {
			look(m.Type())
		}
	}
	return out
}

// TestPackageDocs: each package says once what it is for, in more than a line.
func TestPackageDocs(t *testing.T) {
	for _, p := range all(t) {
		var docs []string
		for _, f := range p.Syntax {
			if f.Doc != nil && f.Doc.Text() != "" {
				docs = append(docs, f.Doc.Text())
			}
		}
		switch {
		case generated(p):
		case len(docs) != 1:
			t.Errorf("%s has %d package comments, want 1", p.PkgPath, len(docs))
		case len(docs[0]) < 120:
			t.Errorf("%s: package comment of %d characters says too little: purpose, consequences, what it must not import", p.PkgPath, len(docs[0]))
		}
	}
}

// generated says whether a package holds generated code alone.
func generated(p *packages.Package) bool {
	for _, f := range p.Syntax {
		if !ast.IsGenerated(f) {
			return false
		}
	}
	return true
}

// Limits of readability, in lines. They bound the outliers; the habits are in
// docs/TESTING.md.
const (
	maxFunction = 70
	maxFile     = 500
)

func TestSizes(t *testing.T) {
	for _, p := range all(t) {
		for _, f := range p.Syntax {
			if ast.IsGenerated(f) {
				continue
			}
			name := fset.Position(f.Pos()).Filename
			short := path.Join(folder(p), filepath.Base(name))
			if n := fset.Position(f.End()).Line; n > maxFile {
				t.Errorf("%s has %d lines, at most %d", short, n, maxFile)
			}
			for _, d := range f.Decls {
				fn, ok := d.(*ast.FuncDecl)
				if !ok || fn.Body == nil {
					continue
				}
				if n := lines(fn); n > maxFunction {
					t.Errorf("%s: %s has %d lines, at most %d", short, fn.Name.Name, n, maxFunction)
				}
			}
		}
	}
}

func lines(n ast.Node) int { return fset.Position(n.End()).Line - fset.Position(n.Pos()).Line + 1 }

// TestExportedDocs: 97 of 100 exported declarations have a comment.
func TestExportedDocs(t *testing.T) {
	var with int
	var without []string
	for _, p := range all(t) {
		for _, f := range p.Syntax {
			if ast.IsGenerated(f) || p.Name == "main" {
				continue
			}
			for _, d := range f.Decls {
				if fn, ok := d.(*ast.FuncDecl); ok && fn.Name.IsExported() && fn.Recv == nil {
					if fn.Doc == nil {
						without = append(without, fmt.Sprintf("%s.%s", p.PkgPath, fn.Name.Name))
					} else {
						with++
					}
				}
			}
		}
	}
	if total := with + len(without); 100*with < 97*total {
		t.Errorf("%d of %d exported functions have no comment: %v", len(without), total, without)
	}
}
