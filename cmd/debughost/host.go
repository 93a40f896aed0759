package main

import (
	"context"
	"path/filepath"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"

	"github.com/debughost/debughost/control"
	"github.com/debughost/debughost/host"
	"github.com/debughost/debughost/host/config"
)

// auditFile is the name of the audit log in the data directory.
const auditFile = "audit.log"

// runHost runs a host and its control API until ctx ends or one of them fails.
// The API stops first, so that calls under way still have a host to end on.
func runHost(ctx context.Context, o runOptions) error {
	log := logrus.New()
	log.SetOutput(o.Stderr)
	h, err := host.New(host.Options{
		Load:    func() (*config.Config, error) { return config.Load(o.Sources) },
		DataDir: o.DataDir,
		Log:     log,
		Version: o.Version.Version,
	})
	if err != nil {
		return err
	}
	socket := h.Socket()
	if o.Addr != "" {
		if socket, err = control.ParseAddr(o.Addr); err != nil {
			h.Close()
			return err
		}
	}
	server := control.NewServer(control.ForHost(h, control.Options{
		Socket:  socket,
		Version: o.Version,
		Audit:   &control.AuditFile{Path: filepath.Join(h.DataDir(), auditFile)},
		Metrics: h.MetricsAddress(),
		Log:     log.WithField("part", "control"),
	}))
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	parts, ctx := errgroup.WithContext(ctx)
	hostCtx, stopHost := context.WithCancel(context.WithoutCancel(ctx))
	defer stopHost()
	parts.Go(func() error {
		defer stop() // it may have left the cluster
		return h.Run(hostCtx)
	})
	parts.Go(func() error {
		defer stopHost()
		return server.Run(ctx)
	})
	parts.Go(func() error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-o.Reload:
				_ = h.Reload(ctx) // which says in log and events what was wrong
			}
		}
	})
	return parts.Wait()
}
