// Package arch holds the rules of the architecture, each with its reason: which
// package may import which, and that every package says what it is. It has only
// tests.
//
// It is no linter: what gofmt, vet and staticcheck see is theirs.
package arch

import (
	"encoding/json"
	"fmt"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/debughost/debughost"

// layer says which parts of this module the packages below a directory may
// import; others than these, and the standard library, are third parties'.
type layer struct {
	dir   string   // erl: package erl and everything below
	may   []string // directories, likewise
	third bool     // third parties' packages too
	why   string
}

var layers = []layer{
	{"erl", []string{"erl"}, false,
		"Erlang's protocols are a library that others can take over as it is: nothing but the standard library"},
	{"sdk", []string{"sdk"}, true,
		"a plugin author imports sdk, and must not get the host with it"},
	{"plugins", []string{"plugins", "sdk", "erl"}, true,
		"a bundled plugin has no more at hand than a third party's: what only the host has would be a hole in the contract"},
	{"host", []string{"host", "sdk", "erl"}, true,
		"the engine never knows the API, so that every front-end gets the same engine"},
	{"control", []string{"control", "host", "sdk", "erl"}, true,
		"the API serves front-ends without knowing one"},
	{"cmd", []string{"cmd", "control", "host"}, true,
		"a front-end speaks the control API; what is below the host is none of its business"},
	{"examples", []string{"sdk", "erl"}, true,
		"an example shows what a stranger can do, with what a stranger has"},
	{"test", []string{"test", "cmd", "control", "host", "plugins", "sdk", "erl"}, true,
		"whole-system tests and the demo see everything"},
}

// testsMay are layers whose tests may import more: who makes a fake of what is below
// speaks in its words.
var testsMay = map[string][]string{"cmd": {"sdk"}}

// helpers are packages that help tests, which no program may contain.
var helpers = []string{"erl/erltest", "sdk/plugintest", "host/cluster/clustertest", "test"}

// fileRules bind single files where a package is too coarse.
var fileRules = []struct {
	dir, imports string   // files in dir must not import this directory or below …
	unless       []string // … but for these packages …
	except       []string // … and these files
	why          string
}{
	{"cmd/debughost", "host", []string{"host/config", "host/store", "host/doctor"}, []string{"run.go", "host.go"},
		"only `debughost run` is a member; every other subcommand is a client of the control API, and would work as well against a member elsewhere (the configuration file and the default data directory are known without a member, and doctor looks at a machine that has none)"},
}

// pkg is what go list says of a package.
type pkg struct {
	ImportPath, Dir, Name, Doc                  string
	GoFiles, Imports, TestImports, XTestImports []string
}

// rel is the package's directory in the module; "." is its root.
func (p pkg) rel() string { return rel(p.ImportPath) }

func rel(importPath string) string {
	if importPath == module {
		return "."
	}
	return strings.TrimPrefix(importPath, module+"/")
}

func TestImportsGoDownOnly(t *testing.T) {
	packages := list(t)
	for _, l := range layers {
		if !slices.ContainsFunc(packages, func(p pkg) bool { return under(p.rel(), l.dir) }) {
			t.Errorf("no package below %s: its rule guards nothing", l.dir)
		}
	}
	for _, p := range packages {
		for _, v := range violations(p) {
			t.Error(v)
		}
	}
}

func TestFilesImportOnlyWhatTheyMay(t *testing.T) {
	packages := list(t)
	for _, r := range fileRules {
		i := slices.IndexFunc(packages, func(p pkg) bool { return p.rel() == r.dir })
		if i < 0 {
			t.Errorf("no package %s: its rule guards nothing", r.dir)
			continue
		}
		files, err := filepath.Glob(filepath.Join(packages[i].Dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			name := filepath.Base(file)
			if strings.HasSuffix(name, "_test.go") || slices.Contains(r.except, name) {
				continue
			}
			for _, imported := range fileImports(t, file) {
				if under(rel(imported), r.imports) && !slices.Contains(r.unless, rel(imported)) {
					t.Errorf("%s/%s imports %s: %s", r.dir, name, imported, r.why)
				}
			}
		}
	}
}

// A reader starts with the package comment. So there is one, in the form that
// go doc expects.
func TestEveryPackageHasAComment(t *testing.T) {
	for _, p := range list(t) {
		if len(p.GoFiles) == 0 { // only tests: go list reads no comment there
			continue
		}
		starts := []string{"Package " + p.Name + " "}
		if p.Name == "main" { // Command demo shows, or Demo shows
			starts = []string{"Command ", path.Base(p.rel()) + " "}
		}
		if !slices.ContainsFunc(starts, func(s string) bool {
			return len(p.Doc) > len(s) && strings.EqualFold(p.Doc[:len(s)], s)
		}) {
			t.Errorf("%s: the package comment begins %q, want %q: say what it is, what it is not, and one use",
				p.rel(), p.Doc, starts[0]+"…")
		}
	}
}

// The rules themselves are tried on imports that they must see.
func TestRulesSeeViolations(t *testing.T) {
	for _, c := range []struct {
		from, to string
		bad      bool
	}{
		{"erl/etf", "math/big", false},
		{"erl/node", module + "/erl/dist", false},
		{"erl/etf", "github.com/sirupsen/logrus", true},
		{"erl/etf", module + "/sdk", true},
		{"erl/node", module + "/erl/erltest", true},
		{"sdk", module + "/host", true},
		{"sdk", "google.golang.org/grpc", false},
		{"plugins/discovery-epmd", module + "/host/config", true},
		{"plugins/discovery-epmd", module + "/erl/epmd", false},
		{"host/target", module + "/control", true},
		{"host", module + "/hostess", true},
		{"control", module + "/host/target", false},
		{"cmd/debughost", module + "/erl/etf", true},
		{"cmd/debughost", module + "/sdk", true},
	} {
		got := violations(pkg{ImportPath: module + "/" + c.from, Imports: []string{c.to}})
		if (len(got) > 0) != c.bad {
			t.Errorf("%s imports %s: violation %v, want %v", c.from, c.to, got, c.bad)
		}
	}
	for to, bad := range map[string]bool{"/sdk": false, "/erl/etf": true} {
		if got := violations(pkg{ImportPath: module + "/cmd/debughost", TestImports: []string{module + to}}); (len(got) > 0) != bad {
			t.Errorf("a test of cmd/debughost imports %s: violation %v, want %v", to, got, bad)
		}
	}
}

// violations are the rules that p breaks, as sentences.
func violations(p pkg) (found []string) {
	i := slices.IndexFunc(layers, func(l layer) bool { return under(p.rel(), l.dir) })
	if i < 0 {
		if p.rel() == "." { // the embedded config.toml
			return nil
		}
		return []string{fmt.Sprintf("%s belongs to no layer: add a rule for it", p.rel())}
	}
	l := layers[i]
	for _, imported := range p.Imports {
		switch dir := rel(imported); {
		case slices.ContainsFunc(helpers, func(h string) bool { return under(dir, h) && !under(p.rel(), h) }):
			found = append(found, fmt.Sprintf("%s imports %s: it helps tests, and no program may contain it", p.rel(), dir))
		case !l.third && thirdParty(imported):
			found = append(found, fmt.Sprintf("%s imports %s: %s", p.rel(), imported, l.why))
		}
	}
	// A test must not reach up either: it would have to move with what is above.
	for _, imported := range slices.Concat(p.Imports, p.TestImports, p.XTestImports) {
		ours := imported != module && strings.HasPrefix(imported, module)
		may := l.may
		if !slices.Contains(p.Imports, imported) {
			may = slices.Concat(may, testsMay[l.dir])
		}
		if ours && !slices.ContainsFunc(may, func(d string) bool { return under(rel(imported), d) }) {
			found = append(found, fmt.Sprintf("%s imports %s: %s", p.rel(), rel(imported), l.why))
		}
	}
	return found
}

// under reports whether the package in dir is the one in root or below it.
func under(dir, root string) bool { return dir == root || strings.HasPrefix(dir, root+"/") }

// thirdParty: the first element of a path outside the standard library is a
// host name.
func thirdParty(importPath string) bool {
	first, _, _ := strings.Cut(importPath, "/")
	return strings.Contains(first, ".") && !strings.HasPrefix(importPath, module)
}

func list(t *testing.T) (packages []pkg) {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Dir,Name,Doc,GoFiles,Imports,TestImports,XTestImports", module+"/...")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	dec := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p pkg
		err := dec.Decode(&p)
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("decode go list: %v", err)
		}
		packages = append(packages, p)
	}
	if len(packages) == 0 {
		t.Fatal("go list names no package")
	}
	return packages
}

func fileImports(t *testing.T, file string) (paths []string) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
	if err != nil {
		t.Fatal(err)
	}
	for _, spec := range f.Imports {
		paths = append(paths, path.Clean(strings.Trim(spec.Path.Value, `"`)))
	}
	return paths
}
