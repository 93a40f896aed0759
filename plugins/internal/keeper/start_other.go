//go:build unix && !linux

package keeper

import (
	"os"
	"syscall"

	"github.com/debughost/debughost/plugins/internal/keeper/launch"
)

func limits(*child, bool) []launch.Limit { return nil }

func (s *server) settleForker() error { return nil }

func (s *server) fork(c *child, job launch.Job, p *pipes) (f forked, err error) {
	self, err := os.Executable()
	if err != nil {
		return f, err
	}
	files, err := p.insideLaunch()
	if err != nil {
		return f, err
	}
	attr := &syscall.ProcAttr{Dir: c.Spec.Dir, Env: job.Env, Files: files, Sys: &syscall.SysProcAttr{Setsid: true}}
	f.pid, err = syscall.ForkExec(self, job.Argv(), attr)
	f.outside = f.pid
	return f, err
}
