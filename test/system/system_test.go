package system

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/debughost/debughost/erl/erltest"
	"github.com/debughost/debughost/test/rig"
)

// TestFirstMinutes is the main job on every release, with the JSON contract of
// the command line key by key.
func TestFirstMinutes(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	var beams []*erltest.Beam
	for _, otp := range erltest.Releases() {
		beams = append(beams, s.node(t, erltest.Options{OTP: otp, Long: otp == "27"}))
	}
	leak := beams[0]
	leak.MustEval(t, `register(leak, spawn(fun() -> receive never -> ok end end)), [leak ! {message, I} || I <- lists:seq(1, 5000)]`)
	h := s.run(t)
	h.attached(t, beams...)
	for _, b := range beams {
		require.Equal(t, "[]", b.MustEval(t, "nodes()"), "a debugger is not a member of the user's cluster")
		require.Contains(t, b.MustEval(t, "nodes(hidden)"), "debughost-")
	}

	var ps struct {
		Processes []map[string]any
		Errors    []any
	}
	h.JSON(t, 0, &ps, "ps", "--sort", "message_queue_len", "--limit", "5")
	require.Len(t, ps.Processes, 5)
	require.Equal(t, []any{}, ps.Errors)
	top := ps.Processes[0]
	require.Equal(t, "leak", top["registered_name"])
	require.Equal(t, leak.Name, top["node"])
	require.EqualValues(t, 5000, top["message_queue_len"])
	for _, key := range []string{"node", "pid", "registered_name", "memory", "reductions", "message_queue_len", "current_function", "initial_call", "status"} {
		require.Contains(t, top, key)
	}
	pid := top["pid"].(string)

	var all psAnswer
	h.JSON(t, 0, &all, "ps", "--limit", "0")
	seen := map[string]int{}
	for _, p := range all.Processes {
		seen[p.Node]++
	}
	for _, b := range beams {
		require.Greater(t, seen[b.Name], 30)
	}

	var inspected struct{ Process map[string]any }
	h.JSON(t, 0, &inspected, "inspect", leak.Name, pid)
	require.Equal(t, "leak", inspected.Process["registered_name"])
	bare := strings.Trim(pid, "<>")
	for _, form := range []string{"#PID" + pid, bare, "leak"} {
		h.JSON(t, 0, &inspected, "inspect", leak.Name, form)
		require.Equal(t, pid, inspected.Process["pid"])
	}

	var killed struct{ Done map[string]any }
	h.JSON(t, 0, &killed, "kill", leak.Name, pid, "--reason", "shutdown")
	require.Equal(t, pid, killed.Done["pid"])
	require.Equal(t, "undefined", leak.MustEval(t, "whereis(leak)"))
	_, stderr := h.Exit(t, 1, "kill", leak.Name, pid)
	require.Contains(t, stderr, "noproc")
	_, stderr = h.Exit(t, 1, "kill", leak.Name, "init")
	require.Contains(t, stderr, "--force")

	h.Exit(t, 2, "ps", "--sort", "nonsense")
	h.Exit(t, 2, "no-such-command")
	h.Exit(t, 2, "kill", leak.Name)
	out, _ := h.Exit(t, 0, "ps", "--limit", "3", "-o", "csv")
	require.Equal(t, 4, strings.Count(out, "\n"))
	require.True(t, strings.HasPrefix(out, "node,pid,registered_name,memory,reductions,message_queue_len,current_function,initial_call,status"), out)

	var plugins struct {
		Plugins []struct{ Name, Kind, State, Version string }
	}
	h.JSON(t, 0, &plugins, "plugins")
	require.Len(t, plugins.Plugins, 1)
	require.Equal(t, "discovery-epmd", plugins.Plugins[0].Name)
	require.Equal(t, "discovery", plugins.Plugins[0].Kind)
	for _, cmd := range []string{"status", "version"} {
		var any map[string]any
		h.JSON(t, 0, &any, cmd)
		require.NotEmpty(t, any)
	}
	require.Equal(t, "target_attached", h.awaitEvent(t, "target_attached").Type)
	require.Equal(t, "process_killed", h.awaitEvent(t, "process_killed").Type)

	plugin := h.pluginPid(t)
	h.Term(t)
	require.NoError(t, rig.Gone(plugin), "SIGTERM leaves no process behind")
	require.NoFileExists(t, filepath.Join(h.Dir, "api.sock"))
	for _, b := range beams {
		require.Equal(t, "{0,0}", b.MustEval(t, clean), "the nodes are as they were")
		b.Await(t, "nodes(hidden)", "[]")
	}
}

// TestKillHost is kill -9 of the host: the nodes are clean, the plugins gone,
// and it starts again on what it left.
func TestKillHost(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	var beams []*erltest.Beam
	for _, otp := range erltest.Releases() {
		beams = append(beams, s.node(t, erltest.Options{OTP: otp}))
	}
	h := s.run(t)
	h.attached(t, beams...)
	h.Exit(t, 0, "ps", "--limit", "1")
	for _, b := range beams {
		require.Equal(t, "{1,1}", b.MustEval(t, clean), "the helper is there")
	}
	plugin := h.pluginPid(t)
	h.Kill()
	require.NoError(t, rig.Until(rig.Patience, func() error { return rig.Gone(plugin) }))
	for _, b := range beams {
		b.Await(t, clean, "{0,0}")
	}
	again := s.runIn(t, h.Dir)
	again.attached(t, beams...)
	again.Exit(t, 0, "ps", "--limit", "1")
}

// TestSecrets looks for the cookie everywhere that others can look.
func TestSecrets(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	b := s.node(t, erltest.Options{})
	other := s.node(t, erltest.Options{Cookie: "anothersecret"})
	h := s.run(t, "--log-level", "trace")
	h.attached(t, b)
	h.await(t, other.Name, "refused")
	h.Exit(t, 3, "ps", "--limit", "3")
	places := map[string]string{"log": h.Log.String()}
	for _, pid := range []int{h.Pid(), h.pluginPid(t)} {
		for _, file := range []string{"cmdline", "environ"} {
			content, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
			require.NoError(t, err)
			places[fmt.Sprintf("%s of %d", file, pid)] = string(content)
		}
	}
	for _, cmd := range []string{"status", "events", "plugins", "targets"} {
		out, stderr := h.Exit(t, 0, cmd, "-o", "json")
		places[cmd] = out + stderr
	}
	require.NoError(t, filepath.WalkDir(h.Dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		places[path] = string(content)
		return err
	}))
	for place, content := range places {
		require.NotContains(t, content, s.cookie, place)
		require.NotContains(t, content, "anothersecret", place)
	}
}

// TestWrongCookie has one node that refuses beside one that does not.
func TestWrongCookie(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	ok, wrong := s.node(t, erltest.Options{}), s.node(t, erltest.Options{Cookie: "another"})
	h := s.run(t)
	h.attached(t, ok)
	require.Equal(t, "wrong cookie", h.await(t, wrong.Name, "refused").Reason)
	var a psAnswer
	h.JSON(t, 3, &a, "ps", "--limit", "3")
	require.Len(t, a.Processes, 3, "the rows of the other are printed")
	require.Len(t, a.Errors, 1)
	require.Equal(t, wrong.Name, a.Errors[0].Node)
	require.Contains(t, a.Errors[0].Error, "wrong cookie")

	// A cookie of its own for that node, and a reload.
	cookie := filepath.Join(s.home, "another.cookie")
	require.NoError(t, os.WriteFile(cookie, []byte("another\n"), 0o400))
	h.Term(t)
	conf := filepath.Join(s.home, "config.toml")
	alive, _, _ := strings.Cut(wrong.Name, "@")
	require.NoError(t, os.WriteFile(conf, fmt.Appendf(nil, "[[targets.cookies]]\nnodes = %q\nfile = %q\n", alive+"@*", cookie), 0o600))
	h = s.run(t, "--config", conf)
	h.attached(t, ok, wrong)
	h.JSON(t, 0, &a, "ps", "--limit", "3")
}

// TestFrozen stops a node as SIGSTOP does, and lets it go on.
func TestFrozen(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	ok, frozen := s.node(t, erltest.Options{}), s.node(t, erltest.Options{})
	h := s.run(t)
	h.attached(t, ok, frozen)
	require.NoError(t, frozen.Freeze())
	var a psAnswer
	h.JSON(t, 3, &a, "ps", "--limit", "3", "--timeout", "1s")
	require.Len(t, a.Processes, 3)
	require.Len(t, a.Errors, 1)
	require.Equal(t, frozen.Name, a.Errors[0].Node)
	require.Contains(t, h.await(t, frozen.Name, "unreachable").Reason, "does not answer")
	require.NoError(t, frozen.Thaw())
	h.attached(t, frozen)
	h.JSON(t, 0, &a, "ps", "--limit", "3")
}

// TestNodeRestarts kills a node and starts it again under its name: the pids of
// the first incarnation are refused.
func TestNodeRestarts(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	b := s.node(t, erltest.Options{})
	h := s.run(t)
	h.attached(t, b)
	var a psAnswer
	h.JSON(t, 0, &a, "ps", "--limit", "1")
	old := a.Processes[0].Pid
	b.Kill()
	require.Contains(t, h.await(t, b.Name, "gone").Reason, "closed the connection")
	lost := h.awaitEvent(t, "target_lost")
	require.Equal(t, b.Name, lost.Node)
	require.NotEmpty(t, lost.Reason)
	require.NoError(t, b.Restart(t.Context()))
	h.attached(t, b)
	_, stderr := h.Exit(t, 1, "kill", b.Name, old)
	require.Contains(t, stderr, "restarted")
}

// TestEPMDRestarts takes EPMD away: what is attached stays, the strategy says
// so, and what comes later is found.
func TestEPMDRestarts(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	b := s.node(t, erltest.Options{})
	h := s.run(t)
	h.attached(t, b)
	s.epmd.Kill()
	failed := h.awaitEvent(t, "discovery_failed")
	require.NotEmpty(t, failed.Reason)
	var a psAnswer
	h.JSON(t, 0, &a, "ps", "--limit", "3")
	require.Len(t, a.Processes, 3)
	require.Equal(t, "attached", h.targets(t)[b.Name].State)
	require.NoError(t, s.epmd.Restart())
	h.awaitEvent(t, "discovery_recovered")
	later := s.node(t, erltest.Options{})
	h.attached(t, later)
	require.Equal(t, "attached", h.targets(t)[b.Name].State, "EPMD forgot it, the connection did not")
}

// TestPlugin kills and freezes the plugin: it is started again, and the targets
// never notice.
func TestPlugin(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	b := s.node(t, erltest.Options{})
	conf := filepath.Join(s.home, "config.toml")
	require.NoError(t, os.WriteFile(conf, []byte("[plugins]\nhealth_interval = \"200ms\"\nhealth_timeout = \"500ms\"\n"), 0o600))
	h := s.run(t, "--config", conf)
	h.attached(t, b)
	first := h.pluginPid(t)
	require.NoError(t, syscall.Kill(first, syscall.SIGKILL))
	h.awaitEvent(t, "plugin_exited")
	var second int
	h.Eventually(t, func() error {
		if second = h.pluginPid(t); second == first {
			return fmt.Errorf("still process %d", first)
		}
		return nil
	})
	require.NoError(t, syscall.Kill(second, syscall.SIGSTOP))
	h.Eventually(t, func() error {
		if h.pluginPid(t) == second {
			return fmt.Errorf("still process %d", second)
		}
		return nil
	})
	require.NoError(t, rig.Until(rig.Patience, func() error { return rig.Gone(second) }))
	require.Equal(t, "attached", h.targets(t)[b.Name].State)
	for _, e := range h.events(t) {
		require.NotEqual(t, "target_lost", e.Type, "%+v", e)
	}
}

// TestReload swaps the strategy's mode by SIGHUP, and rejects a broken file.
func TestReload(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	one, two := s.node(t, erltest.Options{}), s.node(t, erltest.Options{})
	conf := filepath.Join(s.home, "config.toml")
	write := func(text string) {
		require.NoError(t, os.WriteFile(conf, []byte(text), 0o600))
	}
	list := fmt.Sprintf("[topologies.local]\nstrategy = \"discovery-epmd\"\n[topologies.local.config]\nnodes = [%q]\n", one.Name)
	write(list)
	h := s.run(t, "--config", conf)
	h.attached(t, one)
	require.NotContains(t, h.targets(t), two.Name)

	write("[topologies.local]\nstrategy = \"discovery-epmd\"\n")
	require.NoError(t, h.Cmd.Process.Signal(syscall.SIGHUP))
	h.attached(t, one, two)
	h.awaitEvent(t, "config_reloaded")

	write("[topologies.local]\nstrateggy = \"discovery-epmd\"\n[targets]\nmax_calls = \"many\"\n")
	require.NoError(t, h.Cmd.Process.Signal(syscall.SIGHUP))
	rejected := h.awaitEvent(t, "config_rejected")
	require.Contains(t, rejected.Reason, "strateggy")
	require.Contains(t, rejected.Reason, "max_calls", "every problem at once")
	require.Equal(t, "attached", h.targets(t)[two.Name].State, "the old one stays in force")
	for _, e := range h.events(t) {
		require.NotEqual(t, "target_lost", e.Type, "%+v", e)
	}
}

// TestTwoHosts has two debughosts on the same node, one of which is killed.
func TestTwoHosts(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	b := s.node(t, erltest.Options{})
	one, two := s.run(t), s.run(t)
	one.attached(t, b)
	two.attached(t, b)
	var a psAnswer
	for _, h := range []*host{one, two} {
		h.JSON(t, 0, &a, "ps", "--limit", "3")
	}
	one.Kill()
	b.Await(t, "length(nodes(hidden))", "1")
	two.JSON(t, 0, &a, "ps", "--limit", "3")
	two.Term(t)
	require.Equal(t, "{0,0}", b.MustEval(t, clean))
}

// TestHostilePeers puts what is no proper node behind names of EPMD: each gets
// a state and a reason, and a good node beside them answers.
func TestHostilePeers(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	good := s.node(t, erltest.Options{})
	names, err := s.epmd.Names()
	require.NoError(t, err)
	fake := erltest.StartFakeEPMD(t)
	alive, _, _ := strings.Cut(good.Name, "@")
	fake.Set(alive, names[alive])
	peers := map[string]*erltest.FakePeer{
		"garbage":  erltest.StartFakePeer(t, fake, erltest.Garbage(4096)),
		"silent":   erltest.StartFakePeer(t, fake, erltest.Silence()),
		"closes":   erltest.StartFakePeer(t, fake),
		"huge":     erltest.StartFakePeer(t, fake, erltest.AsAcceptor(), erltest.HugeFrame(0xfffffff0), erltest.Silence()),
		"half":     erltest.StartFakePeer(t, fake, erltest.AsAcceptor(), erltest.HalfFrame(1000, 112, 131), erltest.Silence()),
		"nonsense": erltest.StartFakePeer(t, fake, erltest.AsAcceptor(), erltest.SendFrame(112, 131, 104, 255), erltest.Garbage(1000)),
	}
	dir := filepath.Join(s.home, "cookies")
	require.NoError(t, os.Mkdir(dir, 0o700))
	conf := "[targets]\nconnect_timeout = \"1s\"\n"
	for _, p := range peers {
		file := filepath.Join(dir, p.Name)
		require.NoError(t, os.WriteFile(file, []byte(p.Cookie), 0o400))
		short, _, _ := strings.Cut(p.Name, "@")
		conf += fmt.Sprintf("[[targets.cookies]]\nnodes = %q\nfile = %q\n", short+"@*", file)
	}
	file := filepath.Join(s.home, "config.toml")
	require.NoError(t, os.WriteFile(file, []byte(conf), 0o600))
	s.epmd.Port = fake.Port // for the host alone
	h := s.run(t, "--config", file)
	h.attached(t, good)
	for what, p := range peers {
		h.Eventually(t, func() error {
			short, _, _ := strings.Cut(p.Name, "@")
			for node, row := range h.targets(t) {
				if strings.HasPrefix(node, short+"@") && row.State != "discovered" && row.State != "connecting" && row.State != "attached" && row.Reason != "" {
					return nil
				}
			}
			return fmt.Errorf("no verdict on the %s peer: %v", what, h.targets(t))
		})
	}
	var a psAnswer
	h.JSON(t, 0, &a, "ps", alive, "--limit", "3")
	require.Len(t, a.Processes, 3)
}

// TestHundredTargets attaches to 100 real nodes and ranks them all at once.
func TestHundredTargets(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	// One scheduler and no more than the kernel: 100 of them must fit.
	small := []string{"+S", "1:1", "+SDcpu", "1:1", "+SDio", "1", "+A", "1", "+MMscs", "64"}
	beams := make([]*erltest.Beam, 100)
	var starts errgroup.Group
	starts.SetLimit(4)
	for i := range beams {
		starts.Go(func() (err error) {
			if beams[i], err = erltest.Launch(t.Context(), erltest.Options{OTP: "27", Args: small, EPMD: s.epmd, Cookie: s.cookie}); err == nil {
				t.Cleanup(beams[i].Close)
			}
			return err
		})
	}
	require.NoError(t, starts.Wait())
	h := s.run(t)
	h.Eventually(t, func() error {
		attached := 0
		for _, row := range h.targets(t) {
			if row.State == "attached" {
				attached++
			}
		}
		if attached != 100 {
			return fmt.Errorf("%d of 100 are attached", attached)
		}
		return nil
	})
	var a psAnswer
	h.JSON(t, 0, &a, "ps", "--limit", "0", "--timeout", "20s")
	nodes := map[string]bool{}
	for _, p := range a.Processes {
		nodes[p.Node] = true
	}
	require.Len(t, nodes, 100)
	for _, b := range beams[:10] {
		b.Kill()
	}
	for _, b := range beams[:10] {
		h.await(t, b.Name, "gone")
	}
	h.Term(t)
	require.Equal(t, "{0,0}", beams[50].MustEval(t, clean))
}

// TestDisk runs on a data directory that is read-only, and on one that is full.
func TestDisk(t *testing.T) {
	t.Parallel()
	for name, mount := range map[string]string{
		"read-only": "mount -t tmpfs -o size=1m,mode=700 none %[1]s && mount -o remount,ro %[1]s",
		"full":      "mount -t tmpfs -o size=16k,mode=700 none %[1]s && (cat /dev/zero > %[1]s/fill 2>/dev/null; true)",
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			b := s.node(t, erltest.Options{})
			dir, err := os.MkdirTemp("", "dh")
			require.NoError(t, err)
			t.Cleanup(func() { os.RemoveAll(dir) })
			socket := filepath.Join(dir, "elsewhere.sock")
			data := filepath.Join(dir, "data")
			require.NoError(t, os.Mkdir(data, 0o700))
			script := fmt.Sprintf(mount, data) + fmt.Sprintf(" && exec %s run --data-dir %s --addr %s", filepath.Join(rig.Bin, "debughost"), data, socket)
			// A mount namespace of its own, so that nothing is left behind.
			args := []string{"unshare", "--mount", "sh", "-c", script}
			if os.Getuid() != 0 {
				args = append([]string{"unshare", "--map-root-user"}, args[1:]...)
			}
			h := s.start(t, dir, args...)
			h.Eventually(t, func() error { _, _, err := h.Try("targets", "--addr", socket); return err })
			h.Eventually(t, func() error {
				out, _, err := h.Try("ps", "--limit", "3", "-o", "json", "--addr", socket)
				if err == nil && !strings.Contains(out, b.Name) {
					err = fmt.Errorf("no rows: %s", out)
				}
				return err
			})
			b.MustEval(t, `register(victim, spawn(fun() -> receive never -> ok end end))`)
			out, _, err := h.Try("kill", b.Name, "victim", "--addr", socket, "-o", "json")
			require.NoError(t, err, out)
			out, _, err = h.Try("status", "--addr", socket)
			require.NoError(t, err)
			require.Contains(t, strings.ToLower(out), "warn", "it says that the disk is not as it should be")
			h.Term(t)
		})
	}
}

// TestEventsFollow reads the live stream while a node comes and goes.
func TestEventsFollow(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	h := s.run(t)
	cmd := exec.Command(filepath.Join(rig.Bin, "debughost"), "events", "--follow", "-o", "json", "--data-dir", h.Dir)
	cmd.Env = s.env()
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	lines := make(chan eventRow)
	go func() {
		defer close(lines)
		for dec := json.NewDecoder(out); ; {
			var e eventRow
			if dec.Decode(&e) != nil {
				return
			}
			lines <- e
		}
	}()
	b := s.node(t, erltest.Options{})
	// EPMD tells only what stands before the @; the rest is known once attached.
	alive, _, _ := strings.Cut(b.Name, "@")
	next := func(typ string) {
		t.Helper()
		over := time.After(rig.Patience)
		for {
			select {
			case e, ok := <-lines:
				require.True(t, ok, "the stream has ended")
				if e.Type == typ && strings.HasPrefix(e.Node, alive+"@") {
					return
				}
			case <-over:
				t.Fatalf("no %s of %s", typ, b.Name)
			}
		}
	}
	next("target_found")
	next("target_attached")
	b.Kill()
	next("target_lost")
	next("target_dropped")
}

// TestSecondHostOnOneDirectory is refused with the other's process id.
func TestSecondHostOnOneDirectory(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	h := s.run(t)
	second := s.start(t, h.Dir, filepath.Join(rig.Bin, "debughost"), "run", "--data-dir", h.Dir)
	<-second.Done
	require.Error(t, second.Err)
	require.Contains(t, second.Log.String(), strconv.Itoa(h.Pid()))
	h.Exit(t, 0, "version")
}

// TestNotRunning says what to do.
func TestNotRunning(t *testing.T) {
	t.Parallel()
	h := &host{Host: &rig.Host{Dir: t.TempDir()}, site: newSite(t)}
	_, stderr := h.Exit(t, 1, "ps")
	require.Contains(t, stderr, "debughost run")
}

// TestUnresolvable names a node whose host does not resolve.
func TestUnresolvable(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	l.Close()
	conf := filepath.Join(s.home, "config.toml")
	require.NoError(t, os.WriteFile(conf, []byte("[topologies.local]\nstrategy = \"discovery-epmd\"\n[topologies.local.config]\nnodes = [\"shop@no-such-host.invalid\"]\n"), 0o600))
	h := s.run(t, "--config", conf)
	h.Eventually(t, func() error {
		for node, row := range h.targets(t) {
			if strings.Contains(row.Reason, "resolv") {
				return nil
			}
			return fmt.Errorf("%s: %+v", node, row)
		}
		status, _ := h.Exit(t, 0, "status")
		if strings.Contains(status, "resolv") || strings.Contains(status, "no such host") {
			return nil
		}
		return fmt.Errorf("nobody says that the name does not resolve: %s", status)
	})
}
