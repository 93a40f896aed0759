//go:build trial

package rabbitmq

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/test/rig"
)

// TestRabbitMQ goes through all views of a broker at work.
func TestRabbitMQ(t *testing.T) {
	b := startBroker(t)
	h := rig.Start(t, rig.Options{Env: b.env})
	h.Eventually(t, func() error {
		out, _, err := h.Try("targets")
		if err == nil && !regexp.MustCompile(name+` +attached`).MatchString(out) {
			err = fmt.Errorf("not attached:\n%s", out)
		}
		return err
	})
	v := &views{t, h}
	work(v, b)

	t.Run("processes", func(t *testing.T) { processes(&views{t, h}) })
	t.Run("states", func(t *testing.T) { states(&views{t, h}) })
	t.Run("trees", func(t *testing.T) { trees(&views{t, h}) })
	t.Run("resources", func(t *testing.T) { resources(&views{t, h}) })
	t.Run("findings", func(t *testing.T) { findings(&views{t, h}) })
	t.Run("every view in every format", func(t *testing.T) { everything(&views{t, h}) })

	// Nothing of ours is left when we are gone: another, without a helper, looks.
	h.Term(t)
	never := append(b.env[:len(b.env):len(b.env)], "DEBUGHOST_TARGETS_AGENT=never")
	h = rig.Start(t, rig.Options{Env: never})
	h.Eventually(t, func() error {
		out, _, err := h.Try("ps", name, "--limit", "0", "-o", "json")
		if err == nil && strings.Contains(out, "debughost_agent") {
			err = errors.New("a process of the helper is left")
		}
		return err
	})
}

// views asks the debughost beside the broker.
type views struct {
	t *testing.T
	h *rig.Host
}

// says is what a command prints.
func (v *views) says(args ...string) string {
	v.t.Helper()
	out, errs := v.h.Exit(v.t, 0, args...)
	return out + errs
}

func (v *views) eval(expression string) string {
	v.t.Helper()
	return strings.TrimSpace(v.says("eval", name, "--erlang", expression))
}

// work declares queues of all kinds and fills them.
func work(v *views, b *broker) {
	const declare = `(fun(Name, Type) -> element(1, rabbit_amqqueue:declare(rabbit_misc:r(<<"/">>, queue, Name), true, false, [{<<"x-queue-type">>, longstr, Type}], none, <<"trial">>)) end)`
	for queue, kind := range map[string]string{"backlog": "classic", "busy": "classic", "kept": "quorum", "log": "stream"} {
		require.Equal(v.t, "new", v.eval(fmt.Sprintf(`%s(<<"%s">>, <<"%s">>)`, declare, queue, kind)))
	}
	b.publish(v.t, "backlog", 5000)
	b.publish(v.t, "kept", 200)
	b.publish(v.t, "log", 200)
	b.consume(v.t, "busy", 5)
	v.h.Eventually(v.t, func() error {
		out, _, err := v.h.Try("eval", name, "--erlang", `length(rabbit_channel:list())`)
		if err == nil && strings.TrimSpace(out) != "5" {
			err = fmt.Errorf("%s channels", out)
		}
		return err
	})
}

const backlog = `pid_to_list(amqqueue:get_pid(element(2, rabbit_amqqueue:lookup(rabbit_misc:r(<<"/">>, queue, <<"backlog">>)))))`

func processes(v *views) {
	for _, sort := range []string{"memory", "reductions", "message_queue_len"} {
		assert.Contains(v.t, v.says("ps", "--sort", sort, "--limit", "500"), "rabbit_channel:init/1")
	}
	assert.Contains(v.t, v.says("ps", "--filter", "rabbit_disk", "--window", "200ms"), "rabbit_disk_monitor")

	// Thousands of messages that were read in few packets keep few binaries.
	queue := strings.Trim(v.eval(backlog), `"`)
	var p struct {
		Process struct {
			Binary struct{ Count, Bytes uint64 }
		}
	}
	v.h.JSON(v.t, 0, &p, "inspect", name, queue)
	v.t.Logf("the backlog holds %d binaries, %d bytes", p.Process.Binary.Count, p.Process.Binary.Bytes)
	assert.NotZero(v.t, p.Process.Binary.Count)
	assert.Less(v.t, p.Process.Binary.Bytes, uint64(50e6))
	graph := v.says("inspect", name, queue, "--graph")
	assert.Contains(v.t, graph, "rabbit_memory_monitor:init/1")
	assert.NotContains(v.t, graph, "proc_lib:init_p")
}

func states(v *views) {
	for process, want := range map[string][]string{
		"rabbit_vhost_sup_sup": {"supervisor2", "#strategy", "#module"},
		"worker_pool":          {"gen_server2", "worker_pool", "#state"},
		"%2F_kept":             {"gen_statem", "ra_server_proc", "leader"},
		"ra_log_wal":           {"gen_batch_server"},
		"rabbit_event":         {"gen_event"},
		"rabbit_sup":           {"supervisor", "#intensity", "#args"},
	} {
		said := v.says("state", name, process)
		for _, w := range want {
			assert.Contains(v.t, said, w, process)
		}
		assert.NotRegexp(v.t, `\[\d+,\d+,\d+,\d+,\d+,\d+,\d+,\d+`, said, "a text as numbers: %s", process)
	}
}

func trees(v *views) {
	_ = v.says("tree", name, "rabbit", "--children", "1000")
	tree := v.says("tree", name, "rabbit", "--children", "1000")
	for _, want := range []string{"rabbit_amqqueue_sup", "intrinsic", "rabbit_connection_sup", "ranch_acceptors_sup"} {
		assert.Contains(v.t, tree, want)
	}
	assert.Regexp(v.t, `rabbit_amqqueue_sup_sup +<0\.\d+\.0> +simple_one_for_one 10/10s`, tree)
	assert.Regexp(v.t, `rabbit_disk_monitor +<0\.\d+\.0> +worker +transient`, tree)
	assert.NotContains(v.t, tree, "gen_server2:process_next_msg", "idle")
	var answer struct{ Tree restarted }
	v.h.JSON(v.t, 0, &answer, "tree", name, "rabbit")
	assert.Zero(v.t, answer.Tree.all(), "nothing has restarted")
	assert.Contains(v.t, v.says("apps"), "RabbitMQ")
	env := v.says("apps", "--env", name, "rabbit")
	assert.Regexp(v.t, `default_pass +'\*\*redacted\*\*'`, env)
}

type restarted struct {
	Restarts uint64
	Children []restarted
}

func (r restarted) all() uint64 {
	n := r.Restarts
	for _, c := range r.Children {
		n += c.all()
	}
	return n
}

func resources(v *views) {
	assert.Contains(v.t, v.says("system"), "25")
	assert.Contains(v.t, v.says("system", name), "binary_alloc")
	assert.Contains(v.t, v.says("ets", "--filter", "rabbit_queue"), "mnesia_monitor")
	assert.Contains(v.t, v.says("ets", name, "rabbit_queue"), `<<"backlog">>`)
	assert.Contains(v.t, v.says("mnesia"), "rabbit_durable_queue")
	assert.Regexp(v.t, `%2F_kept .* ra_server_proc:init/1`, v.says("names"))
	assert.Contains(v.t, v.says("timers"), "COUNT")
	assert.Contains(v.t, v.says("groups"), "rabbit_msg_store")
	var ports struct {
		Ports []struct {
			OwnerName string `json:"owner_name"`
			Input     uint64
		}
	}
	v.h.JSON(v.t, 0, &ports, "ports")
	readers := 0
	for _, p := range ports.Ports {
		if strings.HasPrefix(p.OwnerName, "rabbit_reader:") {
			readers++
			assert.NotZero(v.t, p.Input, "clients have sent something")
		}
	}
	assert.Equal(v.t, 5, readers)
}

func findings(v *views) {
	said := v.says("diagnose", "--deep")
	assert.NotContains(v.t, said, "critical")
	assert.NotContains(v.t, said, "restart_loop")
	said = v.says("diagnose", "--monitor", "1s")
	assert.Contains(v.t, said, "sysmon_handler_filter has the system monitor; --force takes it")
	snapshot := filepath.Join(v.t.TempDir(), "before.snapshot")
	assert.Contains(v.t, v.says("snapshot", "-f", snapshot), "wrote")
	_ = v.says("diff", snapshot)

	// A worker that is killed is a restart, and its next command is about its application.
	assert.Equal(v.t, "true", v.eval(`exit(whereis(rabbit_core_metrics_gc), kill)`))
	v.h.Eventually(v.t, func() error {
		out, _, err := v.h.Try("diagnose")
		if err == nil && (!strings.Contains(out, "rabbit_core_metrics_gc_sup") || !strings.Contains(out, "debughost tree "+name+" rabbit")) {
			err = fmt.Errorf("no restart is found:\n%s", out)
		}
		return err
	})
}

// everything asks for each view in each format.
func everything(v *views) {
	for _, view := range []string{
		"targets", "ps", "inspect NODE rabbit", "state NODE rabbit_event", "tree NODE", "tree NODE ra", "apps", "system", "system NODE", "ets",
		"ets NODE rabbit_user", "mnesia", "ports", "names", "timers", "groups", "diagnose", "doctor", "members", "plugins", "status", "eval NODE 1.",
	} {
		args := strings.Fields(strings.ReplaceAll(view, "NODE", name))
		out, _ := v.h.Exit(v.t, 0, append(args, "-o", "json")...)
		assert.True(v.t, json.Valid([]byte(out)), "%s: %.200s", view, out)
		out, _ = v.h.Exit(v.t, 0, args...)
		assert.NotEmpty(v.t, out, view)
	}
}
