package erltest

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// compiled has the modules that LoadModule has had compiled: a node needs half a
// second of a processor to load the compiler and compile a page.
var compiled struct {
	mu    sync.Mutex
	beams map[moduleKey][]byte
}

type moduleKey struct{ otp, module, source string }

// LoadModule loads a module of Erlang source, compiled with debug_info, on the
// node. The first node of a release that wants a module compiles it.
func (b *Beam) LoadModule(t testing.TB, module, source string) {
	t.Helper()
	src, beam := filepath.Join(b.home, module+".erl"), filepath.Join(b.home, module+".beam")
	if err := os.WriteFile(src, []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	b.mu.Lock()
	b.modules = append(b.modules, src, beam)
	b.mu.Unlock()
	key := moduleKey{b.OTP, module, source}
	compiled.mu.Lock()
	code := compiled.beams[key]
	compiled.mu.Unlock()
	if code != nil {
		if err := os.WriteFile(beam, code, 0o600); err != nil {
			t.Fatal(err)
		}
	} else {
		b.MustEval(t, `{ok,_,Code} = compile:file(`+erlPath(src)+`, [binary,debug_info,return_errors]), ok = file:write_file(`+erlPath(beam)+`, Code)`)
	}
	b.MustEval(t, `{ok,Beam} = file:read_file(`+erlPath(beam)+`), {module,_} = code:load_binary('`+module+`', `+erlPath(src)+`, Beam)`)
	if code != nil {
		return
	}
	code, err := os.ReadFile(beam)
	if err != nil {
		t.Fatal(err)
	}
	compiled.mu.Lock()
	defer compiled.mu.Unlock()
	if compiled.beams == nil {
		compiled.beams = map[moduleKey][]byte{}
	}
	compiled.beams[key] = code
}

// forgetModules removes the files of all modules that LoadModule has loaded: they are
// where the node looks for code, and whoever calls one that was unloaded has it loaded
// again.
func (b *Beam) forgetModules() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, file := range b.modules {
		_ = os.Remove(file)
	}
	b.modules = nil
}

// erlPath is a path as an Erlang expression, whatever characters it has.
func erlPath(path string) string {
	return `binary_to_list(base64:decode("` + base64.StdEncoding.EncodeToString([]byte(path)) + `"))`
}
