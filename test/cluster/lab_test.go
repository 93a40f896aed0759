package cluster

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/erl/erltest"
)

// lab is a set of machines on one network: each is a network namespace with an
// address of its own, and all hang on a bridge in one more. Nothing of it is in
// the namespace of the test, nor outlives it.
type lab struct {
	t        testing.TB
	prefix   string // of the names of its namespaces
	machines []*machine
}

// machine is a network namespace with an EPMD of its own.
type machine struct {
	lab  *lab
	name string
	ns   string
	ip   string
	epmd *erltest.EPMD
}

// labs numbers the labs of this process.
var labs struct {
	sync.Mutex
	n int
}

// newLab makes as many machines as there are names.
func newLab(t testing.TB, names ...string) *lab {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("these tests make network namespaces: run them as root")
	}
	labs.Lock()
	labs.n++
	l := &lab{t: t, prefix: fmt.Sprintf("dh%d-%d", os.Getpid(), labs.n)}
	labs.Unlock()
	t.Cleanup(l.remove)
	sw := l.prefix + "-sw"
	l.must("ip", "netns", "add", sw)
	l.must("ip", "-n", sw, "link", "add", "br0", "type", "bridge")
	l.must("ip", "-n", sw, "link", "set", "br0", "up")
	for i, name := range names {
		m := &machine{lab: l, name: name, ns: l.prefix + "-" + name, ip: fmt.Sprintf("10.77.0.%d", i+1)}
		l.machines = append(l.machines, m)
		l.must("ip", "netns", "add", m.ns)
		port := fmt.Sprintf("port%d", i)
		l.must("ip", "-n", sw, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", m.ns)
		l.must("ip", "-n", sw, "link", "set", port, "master", "br0", "up")
		l.must("ip", "-n", m.ns, "addr", "add", m.ip+"/24", "dev", "eth0")
		l.must("ip", "-n", m.ns, "link", "set", "lo", "up")
		l.must("ip", "-n", m.ns, "link", "set", "eth0", "up")
		l.must("ip", "-n", m.ns, "route", "add", "default", "dev", "eth0") // multicast goes this way
		var err error
		m.epmd, err = erltest.LaunchEPMDWith(erltest.EPMDOptions{Port: 4369, Address: "any", Prefix: m.in()})
		require.NoError(t, err)
		t.Cleanup(m.epmd.Kill)
	}
	return l
}

func (l *lab) remove() {
	for _, m := range l.machines {
		_ = exec.Command("ip", "netns", "del", m.ns).Run()
	}
	_ = exec.Command("ip", "netns", "del", l.prefix+"-sw").Run()
}

func (l *lab) must(name string, args ...string) {
	l.t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	require.NoError(l.t, err, "%s %s: %s", name, strings.Join(args, " "), out)
}

// in is what a command line begins with to run on the machine.
func (m *machine) in() []string { return []string{"ip", "netns", "exec", m.ns} }

// iptables adds a rule for what the machine gets, or sends, over its network.
func (m *machine) iptables(args ...string) {
	m.lab.t.Helper()
	m.lab.must("ip", append([]string{"netns", "exec", m.ns, "iptables", "-w"}, args...)...)
}

// deaf has the machine hear nothing of another one. What it sends arrives.
func (m *machine) deaf(to *machine) {
	m.lab.t.Helper()
	m.iptables("-A", "INPUT", "-s", to.ip, "-j", "DROP")
}

// partition cuts the network between groups of machines.
func (l *lab) partition(groups ...[]*machine) {
	l.t.Helper()
	for i, g := range groups {
		for j, h := range groups {
			for _, m := range g {
				for _, o := range h {
					if i != j {
						m.deaf(o)
					}
				}
			}
		}
	}
}

// lose has every machine lose a part of the packets that it gets.
func (l *lab) lose(part float64) {
	l.t.Helper()
	for _, m := range l.machines {
		m.iptables("-A", "INPUT", "-i", "eth0", "-m", "statistic", "--mode", "random", "--probability", fmt.Sprint(part), "-j", "DROP")
	}
}

// heal undoes all that partition, deaf and lose did.
func (l *lab) heal() {
	l.t.Helper()
	for _, m := range l.machines {
		m.iptables("-F")
	}
}
