//go:build unix

// Package keeper runs commands that outlive who asked for them, for a while,
// and leaves nothing of them behind. It is what the bundled sandbox plugins
// have in common.
//
// A plugin is restarted, reloaded, killed, and what it runs must not notice. So
// the commands are no children of the plugin but of a keeper: a process of the
// same program, one for each state directory, in a session of its own. It
// forks, waits, holds limits, writes logs and remembers how each command ended.
// The plugin is its client:
//
//	func main() {
//		if keeper.Main() { // this process was started to be a keeper
//			return
//		}
//		sdk.Serve(…)
//	}
//
//	c := keeper.New(keeper.Options{Dir: stateDir})
//	defer c.Close()
//	token, err := c.Create(ctx, keeper.Spec{ID: "a", Command: []string{"sleep", "60"}})
//
// One keeper for all and not one for each, because three hundred of them have
// to start within a second and may not cost the memory of three hundred.
//
// # Nothing is left
//
// A command may fork, change its session, clear its environment. Its processes
// are found again by the strongest means that the system allows, and all of
// those that it allows are used:
//
//   - a cgroup v2 group for each command, killed as a whole (cgroup.go);
//   - a PID namespace of which the keeper is the init: the kernel kills all that
//     is in it when the keeper ends, also by kill -9 (isolation_linux.go);
//   - a mark that no process can take off: a hard limit that has no effect, and
//     a number of the command's own as its value (tree_linux.go). What ends up
//     below the keeper without a mark of a command that runs is killed.
//
// # What it sees
//
// A command sees and reaches what the keeper's user does, unless its Spec has a View: then
// it is in namespaces of its own, with a root in which there is little (view_linux.go).
//
// When its plugin and the host are gone, the keeper gives each command the time
// that its Spec.Orphan says. Then it kills it and removes all of it. When there
// is nothing to keep, the keeper ends.
//
// # The protocol
//
// A Unix socket in the state directory, for the keeper's own user: lines of JSON,
// requests with a number and answers with the same, and events without one, see
// message. The first request tells of the host, whose pidfd comes along as a
// descriptor. A keeper of an older program serves plugins of a newer one: keys
// are added only, and unknown ones are ignored.
//
// # Goroutines
//
// Of the keeper: one that accepts, two for each connection, two for each command
// (its output), and one each that reaps, watches limits, and looks for strays.
// A command that ends, and an orphan whose time is up, have one for as long as
// that takes.
package keeper
