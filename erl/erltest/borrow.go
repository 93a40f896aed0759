package erltest

import (
	"bytes"
	"context"
	_ "embed"
	"sync"
	"testing"
	"time"
)

//go:embed mend.erl
var mendSource string

// mendTimeout is how long a node may take to be as it was, after a test.
const mendTimeout = time.Second

// idle has the nodes that nobody has borrowed. It is kept while Main runs.
var idle struct {
	mu    sync.Mutex
	open  bool
	nodes map[string][]*Beam // by release
}

// Borrow gives a test a node of a release, the newest one if otp is empty, that
// is like one just started, for the test alone. After the test, processes and
// modules that it left are removed; a node that is then as before, as far as
// mend.erl can tell, goes to another test, and any other one is ended: a test may
// do to it what it likes. Where that a node is young matters, or what its log
// says, Start is the one to call. Without Main every node is a new one.
func Borrow(t testing.TB, otp string) *Beam {
	t.Helper()
	if otp == "" {
		otp = Newest()
	}
	b := takeIdle(otp)
	if b == nil {
		ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
		defer cancel()
		var err error
		if b, err = Launch(ctx, Options{OTP: otp}); err != nil {
			t.Fatal(err)
		}
		if b.fresh, err = b.mend(ctx); err != nil {
			b.Close()
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log of %s:\n%s", b.Name, b.Log())
		}
		if t.Failed() || !b.restored() || !putIdle(b) {
			b.Close()
		}
	})
	return b
}

// mend removes what was added since it was first called, and tells what the node
// is like.
func (b *Beam) mend(ctx context.Context) ([]byte, error) {
	return b.eval(ctx, modeText, terminated(mendSource))
}

// restored waits until the node is as it was when it was new.
func (b *Beam) restored() bool {
	if pid := b.OSPid(); pid == 0 || stopped(pid) {
		return false
	}
	b.forgetModules()
	ctx, cancel := context.WithTimeout(context.Background(), mendTimeout)
	defer cancel()
	for pause := time.Millisecond; ; pause *= 2 {
		now, err := b.mend(ctx)
		if err != nil || bytes.Equal(now, b.fresh) {
			return err == nil
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(pause):
		}
	}
}

func takeIdle(otp string) *Beam {
	idle.mu.Lock()
	defer idle.mu.Unlock()
	nodes := idle.nodes[otp]
	if len(nodes) == 0 {
		return nil
	}
	b := nodes[len(nodes)-1]
	idle.nodes[otp] = nodes[:len(nodes)-1]
	return b
}

func putIdle(b *Beam) bool {
	idle.mu.Lock()
	defer idle.mu.Unlock()
	if idle.open {
		idle.nodes[b.OTP] = append(idle.nodes[b.OTP], b)
	}
	return idle.open
}

// lendNodes begins to keep nodes, until the function that it returns is called.
func lendNodes() (end func()) {
	idle.mu.Lock()
	defer idle.mu.Unlock()
	idle.open, idle.nodes = true, map[string][]*Beam{}
	return func() {
		idle.mu.Lock()
		defer idle.mu.Unlock()
		idle.open = false
		for _, nodes := range idle.nodes {
			for _, b := range nodes {
				b.Close()
			}
		}
	}
}
