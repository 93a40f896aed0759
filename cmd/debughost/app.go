package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/debughost/debughost/control"
	"github.com/debughost/debughost/host/store"
)

// app is what the commands share: the streams and the global flags.
type app struct {
	in       io.Reader
	out, err io.Writer
	outTTY   bool       // escape sequences may be written to out
	errTTY   bool       // a line on err may be written over
	width    func() int // of the terminal; 0 where lines may be as long as they like
	now      func() time.Time
	host     runner                      // what `run` runs
	front    func(remote) (front, error) // of a remote shell

	addr    string
	dataDir string
	output  string
	timeout time.Duration
}

func newApp(in io.Reader, out, err io.Writer) *app {
	a := &app{
		in: in, out: out, err: err,
		outTTY: isTerminal(out), errTTY: isTerminal(err),
		width: func() int { return widthOf(out) },
		now:   time.Now, host: runHost,
	}
	a.front = a.newFront
	return a
}

// isTerminal says whether escape sequences make sense on w.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb"
}

// colors says whether rows may be highlighted (see no-color.org).
func (a *app) colors() bool { return a.outTTY && os.Getenv("NO_COLOR") == "" }

// widthOf asks a terminal for its width. COLUMNS goes before what it says.
func widthOf(w io.Writer) int {
	if !isTerminal(w) {
		return 0
	}
	if n, err := strconv.Atoi(os.Getenv("COLUMNS")); err == nil && n > 0 {
		return n
	}
	n, _, err := term.GetSize(int(w.(*os.File).Fd()))
	if err != nil {
		return 0
	}
	return n
}

// dir is the data directory: the flag, the environment, the default.
func (a *app) dir() (string, error) {
	if a.dataDir != "" {
		return a.dataDir, nil
	}
	return store.DefaultDir() // reads DEBUGHOST_DATA_DIR
}

// address is where the member answers. A flag goes before the environment,
// and the socket before the directory.
func (a *app) address() (string, error) {
	if addr := a.givenAddress(); addr != "" {
		return addr, nil
	}
	dir, err := a.dir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "api.sock"), nil
}

// givenAddress is the address that the user chose, or empty.
func (a *app) givenAddress() string {
	if a.addr != "" || a.dataDir != "" {
		return a.addr
	}
	return os.Getenv("DEBUGHOST_ADDR")
}

// note tells something beside the answer.
func (a *app) note(format string, args ...any) {
	fmt.Fprintf(a.err, "note: "+format+"\n", args...)
}

// Formats of an answer.
const (
	table  = "table"
	asJSON = "json"
	asCSV  = "csv"
)

func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "debughost",
		Short: "Find out what the processes of live Erlang and Elixir nodes do",
		Long: `debughost finds the Erlang and Elixir nodes around it, attaches to them without
a change to their system, and lists, inspects and kills their processes.

Start it with ` + "`debughost run`" + `; the other commands ask the one that runs.`,
		Example: `  debughost run                                 # attach to the nodes of this machine
  debughost targets                             # which nodes, and in what state
  debughost ps --sort message_queue_len         # who does not keep up with its messages
  debughost inspect shop@db1 My.Worker --messages 5`,
		Args:          subcommandOnly,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		SilenceErrors: true,
		SilenceUsage:  true,
		Version:       thisVersion().Version,
	}
	root.SuggestionsMinimumDistance = 2
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	root.SetVersionTemplate("debughost {{.Version}}\n")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usagef("%v", err) })
	f := root.PersistentFlags()
	f.StringVar(&a.addr, "addr", "", "socket of the running debughost (env DEBUGHOST_ADDR; default api.sock in the data directory)")
	f.StringVar(&a.dataDir, "data-dir", "", "data directory (env DEBUGHOST_DATA_DIR; default /var/lib/debughost for root, else ~/.local/share/debughost)")
	f.StringVarP(&a.output, "output", "o", table, "how answers are written: table, json or csv")
	f.DurationVar(&a.timeout, "timeout", 0, "how long an answer may take; with many targets, for each of them (default 10s; 5s for each)")
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error { return a.checkGlobals(cmd) }
	complete(root, "output", table, asJSON, asCSV)
	_ = root.MarkPersistentFlagDirname("data-dir")

	root.AddCommand(
		a.runCommand(), a.targetsCommand(), a.systemCommand(), a.appsCommand(), a.treeCommand(),
		a.psCommand(), a.inspectCommand(), a.stateCommand(),
		a.killCommand(), a.sendCommand(), a.gcCommand(), a.suspendCommand(), a.resumeCommand(), a.flagCommand(), a.supervisorCommand(),
		a.sandboxCommand(), a.childCommand(), a.drainCommand(), a.placementCommand(),
		a.evalCommand(), a.remshCommand(), a.logsCommand(),
		a.etsCommand(), a.mnesiaCommand(), a.portsCommand(), a.timersCommand(), a.groupsCommand(), a.namesCommand(),
		a.diagnoseCommand(), a.snapshotCommand(), a.diffCommand(), a.doctorCommand(),
		a.membersCommand(), a.registryCommand(), a.leaveCommand(), a.forgetCommand(), a.keygenCommand(), a.keysCommand(),
		a.eventsCommand(), a.statusCommand(), a.pluginsCommand(), a.configCommand(), a.versionCommand(),
	)
	// What cobra brings along must tell wrong arguments as the others do.
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		if cmd.Name() == "completion" {
			cmd.Args, cmd.RunE = subcommandOnly, func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
			for _, shell := range cmd.Commands() {
				shell.Args = exactArgs()
			}
		}
	}
	return root
}

// noCSV marks commands whose answer has no rows.
const noCSV = "no-csv"

func (a *app) checkGlobals(cmd *cobra.Command) error {
	switch a.output {
	case table, asJSON:
	case asCSV:
		if cmd.Annotations[noCSV] != "" {
			return usagef("%s has no rows to write as csv: use -o table or -o json", cmd.Name())
		}
	default:
		return usagef("output %q is none of table, json, csv", a.output)
	}
	if a.timeout < 0 || a.timeout > control.MaxTimeout {
		return usagef("timeout %v is not between 0 and %v", a.timeout, control.MaxTimeout)
	}
	return nil
}
