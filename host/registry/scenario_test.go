package registry

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var rewrite = flag.Bool("rewrite", false, "write what the scenarios print into their .golden files")

// TestScenarios runs testdata/scenarios/*.txt, and compares what they print with
// the .golden beside each. A line is a command; # begins a comment. After each
// command all messages are delivered that can be, except those of a link that
// loses them; time passes only by wait.
//
//	members a b c            start them; they see each other
//	clock a +5m              a's clock differs from now on
//	partition a | b c        nobody sees, or reaches, the other side
//	heal                     everybody does again
//	blind b to a             b sees a as gone, though messages pass
//	lossy a b                messages from a to b are lost, though both see each other
//	register KEY on a [OWNER] [value V] [ttl D] [duplicate] [quorum] [force] [claimed N]
//	unregister KEY on a; update KEY on a value V; drop OWNER on a; renew L on a [ttl D]
//	meta KEY V on a; meta KEY on a; unmeta KEY on a
//	restart a; stop a; forget b on a; orphans NODE on a
//	wait 3s                  let time pass
//	show [PREFIX]            what each member shows; those that show the same on one line
//
// An OWNER is pid:NODE:PID, child:ID or lease:ID; the member itself by default.
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("testdata", "scenarios", "*.txt"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			script, err := os.ReadFile(file)
			require.NoError(t, err)
			sc := &scenario{t: t}
			for line := range strings.Lines(string(script)) {
				sc.line(strings.TrimRight(line, "\n"))
			}
			out := strings.TrimSuffix(file, ".txt") + ".golden"
			if *rewrite {
				require.NoError(t, os.WriteFile(out, []byte(sc.out.String()), 0o644))
			}
			want, err := os.ReadFile(out)
			require.NoError(t, err)
			require.Equal(t, string(want), sc.out.String())
		})
	}
}

type scenario struct {
	t   *testing.T
	sim *sim
	out strings.Builder
	// lossy are links whose messages get lost.
	lossy map[[2]string]bool
	// what was printed already
	conflicts, decisions int
	adopted              map[string]int
	start                time.Time
}

func (sc *scenario) line(line string) {
	command, _, _ := strings.Cut(line, "#")
	words := strings.Fields(command)
	if len(words) == 0 {
		return
	}
	fmt.Fprintf(&sc.out, "> %s\n", strings.Join(words, " "))
	sc.command(words[0], words[1:])
	sc.settle()
	sc.news()
}

func (sc *scenario) command(cmd string, args []string) {
	t, s := sc.t, sc.sim
	on := func() string {
		i := slices.Index(args, "on")
		require.GreaterOrEqual(t, i, 0, "%s: on which member?", cmd)
		return args[i+1]
	}
	switch cmd {
	case "members":
		sc.sim = newSim(t, args, 1)
		sc.start, sc.lossy, sc.adopted = sc.sim.now, map[[2]string]bool{}, map[string]int{}
		sc.sim.noticeAll()
	case "clock":
		d, err := time.ParseDuration(args[1])
		require.NoError(t, err)
		s.members[args[0]].skew = d
	case "partition":
		var groups [][]string
		for _, g := range strings.Split(strings.Join(args, " "), "|") {
			groups = append(groups, strings.Fields(g))
		}
		s.partition(groups...)
		s.noticeAll()
	case "heal":
		s.partition()
		for _, m := range s.members {
			m.hides = map[string]bool{}
		}
		clear(sc.lossy)
		s.noticeAll()
	case "blind":
		s.members[args[0]].hides[args[2]] = true
		s.notice(args[0])
	case "lossy":
		sc.lossy[[2]string{args[0], args[1]}] = true
	case "register":
		sc.register(on(), args)
	case "unregister":
		s.do(on(), func(c *core, now time.Time) {
			sc.result(c.mine(args[0], nil, func(r *record) { c.deleteOwn(now, r) }))
		})
	case "update":
		s.do(on(), func(c *core, now time.Time) {
			sc.result(c.mine(args[0], nil, func(r *record) {
				n := r.version()
				n.value = []byte(args[4])
				c.putOwn(now, r, n)
			}))
		})
	case "drop":
		s.do(on(), func(c *core, now time.Time) {
			fmt.Fprintf(&sc.out, "%d\n", c.endOwner(now, packOwner(parseOwner(args[0]))))
		})
	case "renew":
		s.do(on(), func(c *core, now time.Time) {
			l := c.leases.byID[args[0]]
			if l == nil {
				fmt.Fprintln(&sc.out, "no such lease")
				return
			}
			c.renew(now, l.owner, l.ttl)
		})
	case "meta":
		sc.meta(on(), args)
	case "unmeta":
		s.do(on(), func(c *core, now time.Time) { sc.result(c.putMeta(now, args[0], nil, true)) })
	case "stop":
		s.stop(args[0])
		s.noticeAll()
	case "restart":
		s.stop(args[0])
		s.start(args[0])
		sc.adopted[args[0]] = len(s.adopted[args[0]])
		s.noticeAll()
	case "forget":
		s.do(on(), func(c *core, now time.Time) { c.forget(now, args[0]) })
	case "orphans":
		r := &Registry{core: s.members[on()].core}
		for _, e := range r.Orphans(args[0]) {
			fmt.Fprintf(&sc.out, "%s\n", words(e))
		}
	case "wait":
		d, err := time.ParseDuration(args[0])
		require.NoError(t, err)
		for end := s.now.Add(d); s.now.Before(end); {
			sc.settle()
			s.advance(min(100*time.Millisecond, end.Sub(s.now)))
		}
	case "show":
		sc.show(strings.Join(args, ""))
	default:
		t.Fatalf("unknown command %q", cmd)
	}
}

func (sc *scenario) register(on string, args []string) {
	cl := Claim{Key: args[0], Owner: ByMember(on)}
	for i := 1; i < len(args); i++ {
		var err error
		switch w := args[i]; {
		case w == "on":
			i++
		case w == "value":
			i++
			cl.Value = []byte(args[i])
		case w == "ttl":
			i++
			cl.TTL, err = time.ParseDuration(args[i])
		case w == "claimed":
			i++
			var ms int
			ms, err = strconv.Atoi(args[i])
			cl.Claimed = uint64(sc.start.Add(time.Duration(ms) * time.Millisecond).UnixNano())
		case w == "duplicate":
			cl.Duplicate = true
		case w == "quorum":
			cl.Consistency = Quorum
		case w == "force":
			cl.Force = true
		default:
			cl.Owner = parseOwner(w)
		}
		require.NoError(sc.t, err)
	}
	_, err := sc.sim.register(on, cl)
	sc.result(err)
}

func (sc *scenario) meta(on string, args []string) {
	if args[1] == "on" {
		v, ok := (&Registry{core: sc.sim.members[on].core}).Meta(args[0])
		fmt.Fprintf(&sc.out, "%s %t\n", v, ok)
		return
	}
	sc.sim.do(on, func(c *core, now time.Time) { sc.result(c.putMeta(now, args[0], []byte(args[1]), false)) })
}

func (sc *scenario) result(err error) {
	var taken *TakenError
	switch {
	case errors.As(err, &taken):
		fmt.Fprintf(&sc.out, "taken: %s\n", words(taken.Holder))
	case err == errBusy:
		fmt.Fprintln(&sc.out, "waits for another claim")
	case err != nil:
		fmt.Fprintln(&sc.out, err)
	}
}

// settle delivers what can be.
func (sc *scenario) settle() {
	s := sc.sim
	for len(s.wire) > 0 {
		if p := s.wire[0]; sc.lossy[[2]string{p.from, p.to}] {
			s.wire = s.wire[1:]
			continue
		}
		s.deliver(0, false)
	}
}

// news prints what members were told since the last time.
func (sc *scenario) news() {
	s := sc.sim
	for _, d := range s.decisions[sc.decisions:] {
		switch d.outcome {
		case outTaken:
			fmt.Fprintf(&sc.out, "%s: %s is taken: %s\n", d.member, d.key, words(d.entry))
		case outNoQuorum:
			fmt.Fprintf(&sc.out, "%s: %s has no quorum: %d agreed, %d answered\n", d.member, d.key, d.accepted, d.answered)
		case outConfirmed:
			fmt.Fprintf(&sc.out, "%s: %s is confirmed\n", d.member, d.key)
		case outGone:
			fmt.Fprintf(&sc.out, "%s: %s: owner is gone\n", d.member, d.key)
		}
	}
	sc.decisions = len(s.decisions)
	for _, c := range s.conflicts[sc.conflicts:] {
		fmt.Fprintf(&sc.out, "%s is told: lost %s to %s\n", c.member, words(c.Loser), words(c.Winner))
	}
	sc.conflicts = len(s.conflicts)
	for _, n := range s.names {
		for _, e := range s.adopted[n][sc.adopted[n]:] {
			fmt.Fprintf(&sc.out, "%s is told: it had %s\n", n, words(e))
		}
		sc.adopted[n] = len(s.adopted[n])
	}
}

func (sc *scenario) show(prefix string) {
	s := sc.sim
	var order []string
	who := map[string][]string{}
	for _, n := range s.names {
		if s.members[n].down {
			continue
		}
		var parts []string
		for _, r := range s.members[n].core.index.scan(nil, prefix, "", 1<<30) {
			parts = append(parts, words(r.entry()))
		}
		text := strings.Join(parts, ", ")
		if text == "" {
			text = "nothing"
		}
		if who[text] == nil {
			order = append(order, text)
		}
		who[text] = append(who[text], n)
	}
	for _, text := range order {
		fmt.Fprintf(&sc.out, "%s: %s\n", strings.Join(who[text], " "), text)
	}
}

// words is an entry as scenarios print it: x=1 (member a) at b.
func words(e Entry) string {
	s := e.Key
	if len(e.Value) > 0 {
		s += "=" + string(e.Value)
	}
	s += fmt.Sprintf(" (%s)", e.Owner)
	if e.Owner != ByMember(e.Origin) {
		s += " at " + e.Origin
	}
	return s
}

func parseOwner(w string) Owner {
	kind, id, _ := strings.Cut(w, ":")
	switch kind {
	case "pid":
		node, pid, _ := strings.Cut(id, ":")
		return ByPid(node, pid, 1)
	case "child":
		return ByChild(id)
	case "lease":
		return ByLease(id)
	}
	return ByMember(id)
}
