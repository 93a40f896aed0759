//go:build trial

package rabbitmq

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/test/rig"
)

func TestMain(m *testing.M) { rig.Main(m) }

const (
	server = "/usr/lib/rabbitmq/bin/rabbitmq-server"
	name   = "trial@localhost"
)

// broker is a RabbitMQ of our own.
type broker struct {
	dir, port string
	env       []string // of it, and of the debughost beside it
}

// startBroker starts EPMD and RabbitMQ, which end with the test.
func startBroker(t *testing.T) *broker {
	t.Helper()
	epmds, err := filepath.Glob("/usr/lib/erlang/erts-*/bin/epmd")
	require.NoError(t, err)
	require.NotEmpty(t, epmds, "Debian's Erlang is missing: make trial installs it")
	b := &broker{dir: rig.TempDir(t), port: freePort(t)}
	epmd, dist := freePort(t), freePort(t)
	home := filepath.Join(b.dir, "home")
	require.NoError(t, os.Mkdir(home, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(home, ".erlang.cookie"), []byte("trialcookie"), 0o400))
	in := func(file string) string { return filepath.Join(b.dir, file) }
	require.NoError(t, os.WriteFile(in("rabbitmq.conf"), []byte("listeners.tcp.1 = 127.0.0.1:"+b.port+"\n"), 0o600))
	require.NoError(t, os.WriteFile(in("plugins"), []byte("[].\n"), 0o600))
	b.env = []string{"HOME=" + home, "PATH=" + os.Getenv("PATH"), "LC_ALL=C.UTF-8", "ERL_EPMD_PORT=" + epmd, "ERL_EPMD_ADDRESS=127.0.0.1"}
	b.start(t, nil, epmds[len(epmds)-1], "-port", epmd, "-address", "127.0.0.1")
	b.start(t, []string{
		"RABBITMQ_NODENAME=" + name, "RABBITMQ_NODE_IP_ADDRESS=127.0.0.1", "RABBITMQ_NODE_PORT=" + b.port, "RABBITMQ_DIST_PORT=" + dist,
		"RABBITMQ_MNESIA_BASE=" + in("mnesia"), "RABBITMQ_LOG_BASE=" + in("log"), "RABBITMQ_PID_FILE=" + in("pid"),
		"RABBITMQ_ENABLED_PLUGINS_FILE=" + in("plugins"), "RABBITMQ_CONFIG_FILE=" + in("rabbitmq"), "RABBITMQ_GENERATED_CONFIG_DIR=" + in("gen"),
		"RABBITMQ_CONF_ENV_FILE=/dev/null", "RABBITMQ_FEATURE_FLAGS_FILE=" + in("flags"), "ERL_CRASH_DUMP_SECONDS=0",
	}, server)
	require.NoError(t, rig.Until(2*time.Minute, func() error {
		c, err := net.Dial("tcp", "127.0.0.1:"+b.port)
		if err == nil {
			err = c.Close()
		}
		return err
	}), "RabbitMQ does not start")
	return b
}

// start starts a process, in a group of its own, which ends with the test.
func (b *broker) start(t *testing.T, env []string, program string, args ...string) *exec.Cmd {
	t.Helper()
	out := &rig.Log{}
	cmd := exec.Command(program, args...)
	cmd.Env = append(b.env[:len(b.env):len(b.env)], env...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = 5 * time.Second
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s said:\n%s", program, out)
		}
	})
	return cmd
}

// publish sends messages over one connection.
func (b *broker) publish(t *testing.T, queue string, messages int) {
	t.Helper()
	cmd := exec.Command("amqp-publish", "--port="+b.port, "-r", queue, "-l")
	cmd.Stdin = strings.NewReader(strings.Repeat(strings.Repeat("x", 500)+"\n", messages))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	require.NoError(t, cmd.Run(), "%s", &out)
}

// consume opens connections that wait for messages of a queue.
func (b *broker) consume(t *testing.T, queue string, connections int) {
	t.Helper()
	for range connections {
		b.start(t, nil, "amqp-consume", "--port="+b.port, "-q", queue, "cat")
	}
}

func freePort(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return fmt.Sprint(l.Addr().(*net.TCPAddr).Port)
}
