package cluster

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/erl/erltest"
)

// found starts members that know nobody, and find each other by a topology. Each
// looks for nodes on its own machine.
func (c *crew) found(names []string, topology string) {
	c.t.Helper()
	for i, name := range names {
		conf := filepath.Join(c.home, name+".toml")
		p := c.prepare(name, c.lab.machines[i], nil)
		require.NoError(c.t, os.WriteFile(conf, []byte(conf0+topology), 0o600))
		for j := 0; j < len(p.opts.Args); j++ { // nobody is joined
			if p.opts.Args[j] == "--join" {
				p.opts.Args = append(p.opts.Args[:j], p.opts.Args[j+2:]...)
				j--
			}
		}
		p.again(c.t)
	}
}

const conf0 = "[topologies.here]\nstrategy = \"discovery-epmd\"\n"

// peersBy is a topology that finds members.
func peersBy(name, strategy, config string) string {
	return fmt.Sprintf("[topologies.%s]\nstrategy = %q\nfinds = \"members\"\n[topologies.%[1]s.config]\n%[3]s\n", name, strategy, config)
}

// Members find each other by EPMD and by gossip, by one and by both, and the way
// is changed while they run: nobody loses a member or a node over that.
func TestMembersFindEachOther(t *testing.T) {
	t.Parallel()
	l := newLab(t, "a", "b", "c")
	var ips []string
	for _, m := range l.machines {
		ips = append(ips, fmt.Sprintf("%q", m.ip))
	}
	epmd := peersBy("peers", "discovery-epmd", "hosts = ["+strings.Join(ips, ", ")+"]")
	gossip := peersBy("beats", "discovery-gossip", "")
	for name, topology := range map[string]string{"epmd": epmd, "gossip": gossip, "both": epmd + gossip} {
		t.Run(name, func(t *testing.T) {
			n := node(t, l.machines[1], "shop", erltest.Options{})
			c := newCrew(t, l)
			c.t = t
			c.found([]string{"a", "b", "c"}, topology)
			c.settled([]*erltest.Beam{n})
			assert.Equal(t, "b", c.owner(n).name)

			// Swapped in the running members.
			swapped := gossip
			if name == "gossip" {
				swapped = epmd
			}
			for _, p := range c.members {
				require.NoError(t, os.WriteFile(filepath.Join(c.home, p.name+".toml"), []byte(conf0+swapped), 0o600))
				p.Exit(t, 0, "config", "reload")
			}
			for _, p := range c.members {
				p.Eventually(t, func() error {
					var a struct {
						Plugins []struct{ Name, State string }
					}
					if err := p.TryJSON(&a, "plugins"); err != nil {
						return err
					}
					running := 0
					for _, x := range a.Plugins {
						if x.State == "running" {
							running++
						}
					}
					if running != 2 || len(a.Plugins) != 2 {
						return fmt.Errorf("%+v", a.Plugins)
					}
					return nil
				})
			}
			c.settled([]*erltest.Beam{n})
			for _, p := range c.members {
				for _, typ := range []string{"target_lost", "target_released", "member_dead", "member_left", "member_unreachable"} {
					out, _ := p.Exit(t, 0, "events", "--type", typ, "-o", "json")
					assert.Empty(t, out, "at %s", p.name)
				}
			}

			// One that starts later is found by the new way.
			late := c.members[2]
			late.Kill()
			require.NoError(t, os.RemoveAll(late.opts.Dir))
			require.NoError(t, os.Mkdir(late.opts.Dir, 0o700))
			late.again(t)
			c.settled([]*erltest.Beam{n})
			for _, p := range c.members {
				p.Term(t)
			}
		})
	}
}
