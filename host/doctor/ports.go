package doctor

import (
	"cmp"
	"context"
	"errors"
	"net"
	"syscall"

	"github.com/debughost/debughost/host/config"
)

// ports looks whether the ports that a member listens at are free, or, where
// one runs, taken.
func (e *examination) ports(ctx context.Context) {
	if e.cfg == nil {
		return
	}
	if addr := e.cfg.Metrics.Address; addr != "" {
		e.port(ctx, "metrics port", "[metrics] address", addr, "tcp")
	}
	if e.cfg.Clustered() {
		addr := cmp.Or(e.cfg.Cluster.Bind, config.DefaultBind)
		e.port(ctx, "cluster port", "[cluster] bind", addr, "tcp", "udp")
	}
}

func (e *examination) port(ctx context.Context, name, key, addr string, networks ...string) {
	for _, network := range networks {
		err := bind(ctx, network, addr)
		if errors.Is(err, syscall.EADDRINUSE) && e.Running {
			e.ok(name, "%s is in use while debughost runs", addr)
			return
		}
		switch {
		case errors.Is(err, syscall.EADDRINUSE):
			e.add(name, Fail, "find who has it (ss -lnp), or set "+key, "%s (%s) is in use, and no debughost answers here", addr, network)
			return
		case errors.Is(err, syscall.EADDRNOTAVAIL):
			e.add(name, Fail, "set "+key+" to an address of this machine", "%s is not an address of this machine", addr)
			return
		case err != nil:
			e.fail(name, err, "set "+key)
			return
		}
	}
	if e.Running {
		e.add(name, Warn, "was the configuration changed since it started?", "%s is free although debughost runs", addr)
		return
	}
	e.ok(name, "%s is free", addr)
}

// bind takes a port for a moment.
func bind(ctx context.Context, network, addr string) error {
	var lc net.ListenConfig
	if network == "udp" {
		c, err := lc.ListenPacket(ctx, network, addr)
		if err == nil {
			err = c.Close()
		}
		return err
	}
	l, err := lc.Listen(ctx, network, addr)
	if err == nil {
		err = l.Close()
	}
	return err
}

// clock asks the kernel whether something keeps this machine's clock right.
// Members compare their clocks where two of them claim the same name.
func (e *examination) clock(context.Context) {
	if e.cfg == nil || !e.cfg.Clustered() {
		return
	}
	switch synced, known := clockSynced(); {
	case !known:
	case synced:
		e.ok("clock", "the kernel says that it is synchronized")
	default:
		e.add("clock", Warn, "run chrony, systemd-timesyncd or another NTP client on each member's machine", "the kernel says that nothing synchronizes it")
	}
}
