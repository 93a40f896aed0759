package registry

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
)

// cluster is registries that are joined by channels, each with a goroutine that
// receives.
type cluster struct {
	names []string
	regs  map[string]*Registry
	ends  map[string]func()

	mu    sync.Mutex // of what follows, and of SetMembers' order
	boxes map[string]chan mail
	epoch map[string]uint64
}

type mail struct {
	from string
	msg  []byte
}

// startCluster starts n registries that all see each other. hook may change a
// member's config.
func startCluster(tb testing.TB, n int, hook func(*Config)) *cluster {
	c := &cluster{
		regs: map[string]*Registry{}, ends: map[string]func(){},
		boxes: map[string]chan mail{}, epoch: map[string]uint64{},
	}
	for i := range n {
		c.names = append(c.names, fmt.Sprintf("m%d", i))
	}
	for _, name := range c.names {
		c.start(tb, name, 1, hook)
	}
	tb.Cleanup(c.stop)
	c.see(c.names...)
	return c
}

// stop ends all members. It may be called twice.
func (c *cluster) stop() {
	for _, end := range c.ends {
		end()
	}
}

func (c *cluster) start(tb testing.TB, name string, epoch uint64, hook func(*Config)) *Registry {
	ctx, cancel := context.WithCancel(context.Background())
	box := make(chan mail, 4096)
	cfg := Config{Member: name, Epoch: epoch, Send: func(to string, msg []byte) bool {
		c.mu.Lock()
		box := c.boxes[to]
		c.mu.Unlock()
		select {
		case box <- mail{name, msg}:
			return true
		default:
			return false
		}
	}}
	if hook != nil {
		hook(&cfg)
	}
	r := New(cfg)
	c.mu.Lock()
	c.boxes[name], c.regs[name], c.epoch[name] = box, r, epoch
	c.mu.Unlock()
	var wg sync.WaitGroup
	wg.Go(func() { _ = r.Run(ctx) })
	wg.Go(func() {
		for {
			select {
			case m := <-box:
				if err := r.Receive(m.from, m.msg); err != nil {
					tb.Error(err)
				}
			case <-ctx.Done():
				return
			}
		}
	})
	c.ends[name] = func() { cancel(); wg.Wait() }
	return r
}

// restart ends a member and begins another life of it, which all see.
func (c *cluster) restart(tb testing.TB, name string, epoch uint64, hook func(*Config)) *Registry {
	c.ends[name]()
	r := c.start(tb, name, epoch, hook)
	c.see(c.names...)
	return r
}

// see makes the named members all see each other, and the rest each other.
func (c *cluster) see(names ...string) {
	c.mu.Lock()
	lists := map[string][]Peer{}
	for _, n := range c.names {
		for _, o := range c.names {
			visible := slices.Contains(names, n) == slices.Contains(names, o)
			lists[n] = append(lists[n], Peer{Name: o, Epoch: c.epoch[o], Visible: visible})
		}
	}
	c.mu.Unlock()
	for n, peers := range lists {
		c.regs[n].SetMembers(peers)
	}
}
