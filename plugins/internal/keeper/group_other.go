//go:build unix && !linux

package keeper

import (
	"errors"
	"time"

	"github.com/debughost/debughost/sdk"
)

func openGroups(string) (*groups, error) { return nil, errors.New("this system has no cgroups") }

func (g *groups) make(string, sdk.SandboxLimits) (*group, error) { return nil, nil }
func (g *groups) close()                                         {}

func (c *group) kill() int              { return 0 }
func (c *group) pids() []int            { return nil }
func (c *group) freeze(bool)            {}
func (c *group) cpuTime() time.Duration { return 0 }
func (c *group) outOfMemory() bool      { return false }
func (c *group) outOfPids() uint64      { return 0 }
func (c *group) memory() uint64         { return 0 }
func (c *group) remove()                {}
