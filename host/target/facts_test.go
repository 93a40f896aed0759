package target

import (
	"math/big"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/erl/etf"
)

func newFacts() *facts {
	return &facts{node: "shop@db1", rows: &rowReader{node: "shop@db1", mfas: map[mfa]string{}, note: func(etf.Pid) {}}, schedulers: 1}
}

func pairTerm(key string, value etf.Term) etf.Term { return etf.List{etf.Tuple{etf.Atom(key), value}} }

// What a node sends is checked: a wrong shape is an error, never a panic.
func TestReadFacts(t *testing.T) {
	for key := range newFacts().readers() {
		for _, value := range []etf.Term{etf.Int(1), etf.List{etf.Int(1)}, etf.List{etf.Tuple{}}, etf.Tuple{etf.Int(-1)}, etf.Atom("x"), etf.Tuple{etf.Int(1), etf.Int(1), etf.Int(1), etf.Int(1)}} {
			_ = newFacts().read(pairTerm(key, value))
			_, _ = readSnapshot(newFacts().rows, pairTerm(key, value))
		}
	}
	for _, bad := range []etf.Term{
		etf.Int(1), etf.List{etf.Int(1)}, etf.List{etf.Tuple{etf.Atom("node")}},
		pairTerm("node", etf.Int(1)), pairTerm("memory", etf.Int(1)), pairTerm("load", etf.Int(1)), pairTerm("supervisors", etf.Int(1)),
		pairTerm("alone", etf.Int(1)), pairTerm("limits", etf.Int(1)), pairTerm("queues", etf.List{etf.Tuple{etf.Int(1)}}),
	} {
		require.ErrorContains(t, newFacts().read(bad), "diagnose shop@db1: read its")
	}
	for _, bad := range []etf.Term{
		etf.Int(1), etf.List{etf.Int(1)}, pairTerm("groups", etf.Int(1)), pairTerm("groups", etf.Tuple{etf.Int(1), etf.Int(1)}),
		pairTerm("tables", etf.Tuple{etf.Int(1), etf.List{etf.Tuple{}}}), pairTerm("memory", etf.Int(7)),
	} {
		_, err := readSnapshot(newFacts().rows, bad)
		require.ErrorContains(t, err, "diagnose shop@db1: read its")
	}
	for _, bad := range []etf.Term{etf.Int(1), etf.Tuple{etf.Atom("ok"), etf.Atom("none"), etf.Int(1)}} {
		require.Error(t, newFacts().readMonitor(bad, time.Second))
	}
	huge := etf.BigInt{Int: new(big.Int).Lsh(big.NewInt(1), 100)}
	f := newFacts()
	require.NoError(t, f.read(etf.List{
		etf.Tuple{etf.Atom("later"), etf.Int(1)}, etf.Tuple{etf.Atom("between"), huge}, etf.Tuple{etf.Atom("memory"), etf.Atom("none")},
		etf.Tuple{etf.Atom("supervisors"), etf.Tuple{etf.Int(9), etf.Int(2), etf.Int(3), etf.List{}}},
	}))
	assert.Equal(t, []string{
		"the node does not count its memory", "2 of 9 supervisors did not answer in time", "3 supervisors are too large, or too many, to ask for their restarts",
	}, f.skipped)
	assert.Empty(t, f.judge())
}

// Each row has facts on one side of a threshold and says what is found.
func TestJudge(t *testing.T) {
	who := subject{"<0.1.0>", "Elixir.Shop.Mailer", "m:f/1"}
	const mb = 1 << 20
	for _, c := range []struct {
		name  string
		facts facts
		want  []string // severity kind subject: evidence
	}{
		{"nothing", facts{}, nil},
		{"a long mailbox", facts{queues: []changeFact{{who, 1000, 1000}}}, []string{"warning mailbox Elixir.Shop.Mailer <0.1.0>: 1000 messages wait; it runs m:f/1"}},
		{"a mailbox that shrinks", facts{queues: []changeFact{{who, 20000, 30000}}}, []string{"warning mailbox Elixir.Shop.Mailer <0.1.0>: 20000 messages wait, 10000 a second less; it runs m:f/1"}},
		{"a short mailbox", facts{queues: []changeFact{{who, 999, 999}, {who, 99, 0}, {who, 200, 195}}}, nil},
		{"large, with the node", facts{memory: &memoryFact{total: 1024 * mb, before: 1024 * mb}, growth: []changeFact{{who, 512 * mb, 400 * mb}}}, []string{"critical memory_growth Elixir.Shop.Mailer <0.1.0>: 537 MB, 117 MB a second more; it runs m:f/1"}},
		{"grows little", facts{growth: []changeFact{{who, 31 * mb, 0}, {who, 100 * mb, 99*mb + 512<<10}, {who, 1000 * mb, 990 * mb}}}, nil},
		{"the node grows", facts{memory: &memoryFact{total: 300 * mb, before: 200 * mb, binary: 100 * mb}}, []string{"warning memory_growth the node: 315 MB, 105 MB more than 1s before, of which binaries have 105 MB"}},
		{"heap as large as binaries", facts{binaries: []binaryFact{{who, 50 * mb, 10 * mb, 0, false}, {who, 10 * mb, 1, 0, false}}}, nil},
		{"binaries are most of it", facts{memory: &memoryFact{total: 1024 * mb, before: 1024 * mb}, binaries: []binaryFact{{who, 512 * mb, mb, 0, false}}}, []string{"critical binary_leak Elixir.Shop.Mailer <0.1.0>: it holds 537 MB of binaries with a heap of 1.0 MB; it runs m:f/1"}},
		{"a limit", facts{limits: []limitFact{{"ports", 95, 100}, {"processes", 69, 100}}}, []string{"critical limit ports: 95 of at most 100, 95 %"}},
		{"files", facts{limits: []limitFact{{"file descriptors", 1000, 1024}}}, []string{"critical limit file descriptors: 1000 of at most 1024, 98 %"}},
		{"atoms of modules", facts{atomsBefore: 1000, modules: 2, limits: []limitFact{{"atoms", 1999, 1 << 20}}}, nil},
		{"one restart", facts{supervisors: []supervisorFact{{subject: who, recent: 1, most: 3, period: 5}}}, []string{"info restart_loop Elixir.Shop.Mailer <0.1.0>: 1 restart in the last 60 s"}},
		{"restarts, none left", facts{supervisors: []supervisorFact{{subject: who, recent: 9, within: 3, most: 3, period: 5, child: "c", childPid: "<0.2.0>"}}}, []string{"critical restart_loop Elixir.Shop.Mailer <0.1.0>: 9 restarts in the last 60 s, 3 within 5 s, of which it survives 3; the last child started is c <0.2.0>"}},
		{"a child that cannot start", facts{supervisors: []supervisorFact{{subject: who, recent: 1, most: 3, period: 5, child: "c", stuck: true}}}, []string{"critical restart_loop Elixir.Shop.Mailer <0.1.0>: 1 restart in the last 60 s; its child c cannot be started"}},
		{"log handler", facts{loggers: []loggerFact{{"default", "<0.3.0>", 150, 200}, {"x", "<0.4.0>", 99, 200}}}, []string{"warning logger_overload default <0.3.0>: 150 log events wait to be written"}},
		{"busy", facts{load: &loadFact{queue: 0.6, used: 0.95}}, []string{"warning scheduler_busy the node: the emulator used 95 % of the time of its 1 scheduler, and processes wait"}},
		{"busy, but nobody waits", facts{load: &loadFact{queue: 0.1, used: 1}}, nil},
		{"queues", facts{load: &loadFact{queue: 20, used: 1}}, []string{"critical run_queue the node: 20 processes wait for a scheduler, on the average of ten looks; the emulator used 100 % of the time of its 1 scheduler"}},
		{"distribution", facts{distLimit: mb, dist: []distFact{{"a@h", 2 * mb}, {"b@h", 100 << 10}, {"c@h", 1}}}, []string{"critical dist_queue a@h: 2.1 MB wait to be sent to it: it, or the network to it, is slow", "warning dist_queue b@h: 102 kB wait to be sent to it: it, or the network to it, is slow"}},
		{"pauses", facts{monitorTime: time.Minute, monitored: []monitorFact{
			{who, "long_schedule", 2, 1500 * time.Millisecond}, {who, "long_gc", 1, 60 * time.Millisecond}, {subject{"#Port<0.4>", "", "tcp_inet"}, "busy_port", 3, 0}, {who, "busy_dist_port", 1, 0}, {who, "new", 1, 0},
		}}, []string{
			"critical long_schedule Elixir.Shop.Mailer <0.1.0>: 2 times in 60 s, the longest of 1500 ms; it runs m:f/1",
			"warning long_gc Elixir.Shop.Mailer <0.1.0>: 1 time in 60 s, the longest of 60 ms; it runs m:f/1",
			"warning busy_port #Port<0.4>: it had to wait for a port 3 times in 60 s; it runs tcp_inet",
			"warning busy_port Elixir.Shop.Mailer <0.1.0>: it had to wait for the connection to another node 1 time in 60 s; it runs m:f/1",
		}},
		{"tables", facts{tables: []tableFact{{"#Ref<0.1>", "t", who, 70 * mb, 0, false, true}, {"small", "small", who, 1000, 0, true, true}}}, []string{"warning orphan_table t #Ref<0.1>: 73 MB; its owner Elixir.Shop.Mailer <0.1.0> has no supervisor and no link, and there is no heir"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := c.facts
			f.node, f.schedulers, f.between = "shop@db 1", 1, time.Second
			var got []string
			for _, found := range f.judge() {
				got = append(got, string(found.Severity)+" "+found.Kind+" "+found.Subject+": "+found.Evidence)
				assert.Contains(t, found.Next, "debughost ")
				if found.Kind != KindDist {
					assert.Contains(t, found.Next, "'shop@db 1'", "a node's name is quoted")
				}
			}
			assert.Equal(t, c.want, got)
		})
	}
}

func TestRough(t *testing.T) {
	for want, d := range map[string]time.Duration{"1.5s": 1500 * time.Millisecond, "90 s": 90 * time.Second, "30 min": 30 * time.Minute, "3 h": 3 * time.Hour, "4 days": 100 * time.Hour} {
		assert.Equal(t, want, rough(d))
	}
	for want, n := range map[string]uint64{"0 B": 0, "999 B": 999, "1.0 kB": 1000, "12 MB": 12_000_000, "3.0 TB": 3_000_000_000_000} {
		assert.Equal(t, want, sizeText(n))
	}
	assert.Equal(t, `'it'\''s'`, ShellWord("it's"))
	assert.Equal(t, `''`, ShellWord(""))
}
