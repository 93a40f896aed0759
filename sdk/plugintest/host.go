package plugintest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/debughost/debughost/sdk/internal/link"
	"github.com/debughost/debughost/sdk/wire"
	"github.com/hashicorp/go-plugin"
)

// standIn is a host that does nothing but start a plugin: it tells the plugin
// its pid, prints the plugin's pid, and waits. It does not ask the system to
// end the plugin with it, as debughost does on Linux, because not every host
// and system can.
const standIn = `env ` + link.EnvHostPID + `=$$ "$0" & echo "$!"; wait`

// checkHostKilled kills a host. That the plugin is gone is seen by its
// standard output, which closes with the last process that holds it.
func checkHostKilled(ctx context.Context, p Plugin) error {
	shell, err := exec.LookPath("sh")
	if err != nil {
		return skipped("this system has no sh to stand in for the host")
	}
	dir, err := os.MkdirTemp("", "plugintest")
	if err != nil {
		return fmt.Errorf("make directory for sockets: %w", err)
	}
	defer os.RemoveAll(dir)
	handshake := wire.Handshake()
	host := exec.Command(shell, "-c", standIn, p.Path)
	for _, kv := range p.environ() {
		if !strings.HasPrefix(kv, link.EnvHostPID+"=") {
			host.Env = append(host.Env, kv)
		}
	}
	host.Env = append(host.Env, handshake.MagicCookieKey+"="+handshake.MagicCookieValue,
		plugin.EnvUnixSocketDir+"="+dir, "PLUGIN_PROTOCOL_VERSIONS="+strconv.Itoa(link.Version))
	stdout, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make pipe: %w", err)
	}
	defer stdout.Close()
	host.Stdout = w
	if err := host.Start(); err != nil {
		w.Close()
		return fmt.Errorf("start stand-in for the host: %w", err)
	}
	w.Close()
	defer func() {
		_ = host.Process.Kill()
		_ = host.Wait()
	}()

	lines := bufio.NewReader(stdout)
	_ = stdout.SetReadDeadline(deadline(ctx, p.StartTimeout))
	var pid int
	// The pid and the handshake come in any order.
	for handshaken := false; pid == 0 || !handshaken; {
		line, err := lines.ReadString('\n')
		if err != nil {
			return fmt.Errorf("wait for the plugin's handshake: %w", err)
		}
		if n, err := strconv.Atoi(strings.TrimSpace(line)); err == nil {
			pid = n
		} else {
			handshaken = true
		}
	}
	if err := host.Process.Kill(); err != nil {
		return fmt.Errorf("kill stand-in for the host: %w", err)
	}
	_ = stdout.SetReadDeadline(deadline(ctx, 3*time.Second))
	if _, err := io.Copy(io.Discard, lines); errors.Is(err, os.ErrDeadlineExceeded) {
		if left, err := os.FindProcess(pid); err == nil {
			_ = left.Kill()
		}
		return errors.New("the plugin still runs 3s after its host was killed")
	}
	return nil
}

func deadline(ctx context.Context, d time.Duration) time.Time {
	at := time.Now().Add(d)
	if end, ok := ctx.Deadline(); ok && end.Before(at) {
		return end
	}
	return at
}
