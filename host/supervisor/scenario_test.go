package supervisor

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

	"github.com/debughost/debughost/sdk"
)

var rewrite = flag.Bool("rewrite", false, "write what the scenarios print into their .golden files")

// TestScenarios runs testdata/scenarios/*.txt, and compares what they print with
// the .golden beside each. A line is a command; # begins a comment. Time passes
// only by wait.
//
//	members a b c                 start them
//	active                        redistribution is active; before members
//	minority stop                 the placement strategy is one that needs a majority
//	start X on a [transient|temporary] [max N] [snapshot]      on a: where it is asked for; snapshot: its handoff
//	stop X on a; remove X on a; restart X on a; move X b on a
//	reload X 7 on a               with the bundle 7; a start has none
//	unloadable X | loadable X     it cannot be reloaded, or can again
//	torn X                        nor is it known then what it runs
//	crash X; exit X               it ends by itself, abnormally or normally
//	broken X | fine X             it cannot be started, or can again
//	unmovable X | movable X       its state cannot be restored, or can again
//	kill a; boot a; leave a; freeze a; thaw a
//	partition a | b c; heal
//	drain a; undrain a
//	placement down|up; sandboxes of a down|up       the plugins
//	wait 3s
//	show                          what each member says; those that say the same on one line
//	history X on a
//	twice                         for how long children ran twice, so far
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("testdata", "scenarios", "*.txt"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			script, err := os.ReadFile(file)
			require.NoError(t, err)
			sc := &scenario{t: t, broken: map[string]bool{}, unmovable: map[string]bool{}, unloadable: map[string]error{}}
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

	active, minority, placementDown bool
	broken, unmovable               map[string]bool
	unloadable                      map[string]error
}

func (sc *scenario) line(line string) {
	command, _, _ := strings.Cut(line, "#")
	words := strings.Fields(command)
	if len(words) == 0 {
		return
	}
	fmt.Fprintf(&sc.out, "> %s\n", strings.Join(words, " "))
	sc.command(words[0], words[1:])
}

func (sc *scenario) command(cmd string, args []string) {
	s := sc.sim
	switch cmd {
	case "active":
		sc.active = true
	case "minority":
		sc.minority = true
	case "members":
		sc.members(args)
	case "start", "stop", "remove", "restart", "move", "reload":
		sc.request(cmd, args)
	case "crash", "exit":
		s.end(args[0], sdk.SandboxExit{Code: len(cmd) - len("exit")})
	case "broken", "fine":
		sc.broken[args[0]] = cmd == "broken"
	case "unmovable", "movable":
		sc.unmovable[args[0]] = cmd == "unmovable"
	case "unloadable":
		sc.unloadable[args[0]] = errors.New("it does not compile")
	case "torn":
		sc.unloadable[args[0]] = fmt.Errorf("half of it: %w", sdk.ErrPanic)
	case "loadable":
		delete(sc.unloadable, args[0])
	case "kill":
		s.kill(args[0])
	case "boot":
		s.start(args[0])
	case "leave":
		s.leave(args[0])
	case "freeze":
		s.freeze(args[0])
	case "thaw":
		s.thaw(args[0])
	case "partition":
		s.partition(strings.Split(strings.Join(args, " "), "|"))
	case "heal":
		s.cut = map[[2]string]bool{}
	case "drain", "undrain":
		s.drain(args[0], cmd == "drain")
	case "placement":
		sc.placementDown = args[0] == "down"
	case "sandboxes":
		s.box(args[1], args[2] == "down")
	case "wait":
		d, err := time.ParseDuration(args[0])
		require.NoError(sc.t, err)
		s.run(d)
	case "show":
		sc.show()
	case "history":
		sc.history(args[0], args[2])
	case "twice":
		fmt.Fprintf(&sc.out, "%s on members that see each other, %s on any", s.worst, s.any)
		if s.handing > 0 {
			fmt.Fprintf(&sc.out, ", %s while handed over", s.handing)
		}
		fmt.Fprintln(&sc.out)
	default:
		sc.t.Fatalf("no such command: %s", cmd)
	}
}

func (sc *scenario) members(names []string) {
	s := newSim(1, names...)
	s.active, s.quorum = sc.active, sc.minority
	s.badPlace = func() error {
		if sc.placementDown {
			return fmt.Errorf("placement-uniform: %w", sdk.ErrUnavailable)
		}
		return nil
	}
	s.badCreate = func(_, id string) error {
		if sc.broken[id] {
			return errors.New("no such file")
		}
		return nil
	}
	s.badLoad = func(id string) error { return sc.unloadable[id] }
	s.badHand = func(_, _, id string) (bool, error) {
		if sc.unmovable[id] {
			return false, errors.New("its snapshot is of another version")
		}
		return false, nil
	}
	sc.sim = s
	for _, n := range names {
		s.start(n)
	}
	s.run(2 * time.Second)
}

func (sc *scenario) request(cmd string, args []string) {
	r := request{kind: requestKind(cmd), id: args[0]}
	at := args[slices.Index(args, "on")+1]
	switch r.kind {
	case askMove:
		r.member = args[1]
	case askReload:
		n, err := strconv.Atoi(args[1])
		require.NoError(sc.t, err)
		r.bundle, r.note = bundleID(n), "number "+args[1]
		r.reply = func(_ reload, _ []byte, err error) {
			if err != nil {
				fmt.Fprintf(&sc.out, "  answer: %v\n", err)
			}
		}
	case askStart:
		spec := Spec{ID: r.id, Strategy: "process"}
		for i, a := range args {
			switch a {
			case "transient", "temporary":
				spec.Restart = sdk.Restart(a)
			case "snapshot":
				spec.Handoff = sdk.HandoffSnapshot
			case "max":
				_, err := fmt.Sscan(args[i+1], &spec.MaxRestarts)
				require.NoError(sc.t, err)
			}
		}
		spec = spec.complete()
		r.spec = &spec
	}
	if err := sc.sim.request(at, r); err != nil {
		fmt.Fprintln(&sc.out, err)
	}
}

func (s *sim) partition(groups []string) {
	side := map[string]int{}
	for i, g := range groups {
		for _, m := range strings.Fields(g) {
			side[m] = i
		}
	}
	s.cut = map[[2]string]bool{}
	for _, a := range s.names {
		for _, b := range s.names {
			if side[a] != side[b] {
				s.cut[[2]string{a, b}] = true
			}
		}
	}
}

// show prints what each member says, and what runs.
func (sc *scenario) show() {
	said := map[string][]string{}
	var order []string
	for _, m := range sc.sim.names {
		n := sc.sim.nodes[m]
		if n.core == nil || n.frozen {
			continue
		}
		var b strings.Builder
		for _, c := range n.core.list(Filter{}) {
			fmt.Fprintf(&b, "\n  %s %s", c.Spec.ID, c.State)
			if c.Member != "" {
				fmt.Fprintf(&b, " on %s, epoch %d", c.Member, c.Epoch)
			}
			if c.Spec.Bundle != "" {
				fmt.Fprintf(&b, ", bundle %s of %d", strings.TrimLeft(c.Spec.Bundle, "0"), len(c.Spec.Versions))
			}
			if c.Restarts > 0 {
				fmt.Fprintf(&b, ", restarts %d", c.Restarts)
			}
			if c.Reason != "" {
				fmt.Fprintf(&b, ": %s", c.Reason)
			}
		}
		if said[b.String()] == nil {
			order = append(order, b.String())
		}
		said[b.String()] = append(said[b.String()], m)
	}
	for _, text := range order {
		if text == "" {
			text = " nothing"
			said[text] = said[""]
		}
		fmt.Fprintf(&sc.out, "%s:%s\n", strings.Join(said[text], " "), text)
	}
	var runs []string
	for id, at := range sc.sim.procs {
		for m, p := range at {
			text := id + " on " + m
			if p.has != "" {
				text += " with bundle " + strings.TrimLeft(p.has, "0")
			}
			if p.born != m {
				text += " with the state of " + p.born
			}
			runs = append(runs, text)
		}
	}
	slices.Sort(runs)
	fmt.Fprintf(&sc.out, "runs: %s\n", strings.Join(runs, ", "))
}

func (sc *scenario) history(id, at string) {
	for _, e := range sc.sim.nodes[at].core.children[id].entries() {
		fmt.Fprintf(&sc.out, "  %s on %s", e.What, e.Member)
		if e.Reason != "" {
			fmt.Fprintf(&sc.out, ": %s", e.Reason)
		}
		fmt.Fprintln(&sc.out)
	}
}
