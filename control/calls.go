package control

import (
	"context"
	"strings"
	"sync"

	"google.golang.org/grpc"
)

// calls counts the calls of this API that are under way, so that a server that
// stops can wait for them and for nothing else.
type calls struct {
	mu   sync.Mutex
	n    int
	zero chan struct{} // closed when n is 0 again; nil while nobody waits
}

func (c *calls) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	defer c.enter(info.FullMethod)()
	return next(ctx, req)
}

func (c *calls) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	defer c.enter(info.FullMethod)()
	return next(srv, ss)
}

// enter counts a call of this API and returns what ends it.
func (c *calls) enter(method string) (leave func()) {
	if !strings.HasPrefix(method, ourMethods) {
		return func() {}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.n--; c.n == 0 && c.zero != nil {
			close(c.zero)
			c.zero = nil
		}
	}
}

// wait returns when no call is under way, or when ctx ends.
func (c *calls) wait(ctx context.Context) {
	c.mu.Lock()
	if c.n == 0 {
		c.mu.Unlock()
		return
	}
	if c.zero == nil {
		c.zero = make(chan struct{})
	}
	zero := c.zero
	c.mu.Unlock()
	select {
	case <-zero:
	case <-ctx.Done():
	}
}
