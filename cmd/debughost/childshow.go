package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/debughost/debughost/control"
	controlpb "github.com/debughost/debughost/control/proto"
)

// childDetailJSON is all of a child in JSON.
type childDetailJSON struct {
	childJSON
	Enforced map[string]string  `json:"enforced"` // by what each limit is held
	Spec     childSpecJSON      `json:"spec"`
	History  []childEntryJSON   `json:"history"` // oldest first
	Trouble  *memberTroubleJSON `json:"trouble,omitempty"`
}

type childSpecJSON struct {
	Config            json.RawMessage   `json:"config"` // without the values of env
	Memory            uint64            `json:"memory"` // limits; 0 is none
	CPUs              float64           `json:"cpus"`
	Processes         uint32            `json:"processes"`
	OpenFiles         uint32            `json:"open_files"`
	Disk              uint64            `json:"disk"`
	MaxRestarts       int32             `json:"max_restarts"` // below 0: none
	MaxRestartsInMS   int64             `json:"max_restarts_in_ms"`
	ShutdownTimeoutMS int64             `json:"shutdown_timeout_ms"`
	Constraints       map[string]string `json:"constraints"`
	Near              string            `json:"near"`
	Apart             []string          `json:"apart"`
	Handoff           string            `json:"handoff"`
}

type childEntryJSON struct {
	Time   *time.Time     `json:"time"`
	Member string         `json:"member"`
	Epoch  uint64         `json:"epoch"`
	What   string         `json:"what"`
	Reason string         `json:"reason"`
	Exit   *childExitJSON `json:"exit,omitempty"`
}

type childExitJSON struct {
	Code        int32      `json:"code"`
	Signal      int32      `json:"signal"` // 0: none
	OutOfMemory bool       `json:"out_of_memory"`
	Reason      string     `json:"reason"`
	At          *time.Time `json:"at"`
}

// memberTroubleJSON says that the member which runs the child did not tell of it.
type memberTroubleJSON struct {
	Member string `json:"member"`
	Error  string `json:"error"`
}

func (a *app) showChildCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show ID",
		Short: "Show a child with its spec and its history",
		Long: `Show a child: its state, what it uses, by what its limits are held, its spec, and what
happened to it. The member that runs it is asked; where that does not answer, what the
others know is shown. Of its environment only the names are.`,
		Example: `  debughost child show web
  debughost child show web -o json | jq '.child.history[] | select(.what == "exited")'`,
		Args:              exactArgs("ID"),
		Annotations:       map[string]string{noCSV: "yes"},
		ValidArgsFunction: a.completeChildren,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withClient(cmd.Context(), func(ctx context.Context, c *control.Client) error {
				ctx, cancel := a.within(ctx, answerTime)
				defer cancel()
				res, err := c.Children.GetChild(ctx, &controlpb.GetChildRequest{Id: args[0]})
				if err != nil {
					return err
				}
				return a.showChild(res)
			})
		},
	}
}

func (a *app) showChild(res *controlpb.GetChildResponse) error {
	if a.output == asJSON {
		return writeJSON(a.out, map[string]any{"child": childDetailRow(res)})
	}
	if err := a.printChildDetail(res); err != nil {
		return err
	}
	if t := res.GetTrouble(); t != nil {
		a.note("%s, so this is what is known here: %s", sane(t.GetMember())+" does not tell of it", sane(t.GetError()))
	}
	return nil
}

func childDetailRow(res *controlpb.GetChildResponse) childDetailJSON {
	s, l := res.GetSpec(), res.GetSpec().GetLimits()
	row := childDetailJSON{
		childJSON: childRow(res.GetChild()), Enforced: map[string]string{}, History: []childEntryJSON{},
		Spec: childSpecJSON{
			Config: configJSON(s.GetConfig()), Memory: l.GetMemory(), CPUs: l.GetCpus(), Processes: l.GetProcesses(), OpenFiles: l.GetOpenFiles(),
			Disk: l.GetDisk(), MaxRestarts: s.GetMaxRestarts(), MaxRestartsInMS: s.GetMaxRestartsIn().AsDuration().Milliseconds(),
			ShutdownTimeoutMS: s.GetShutdownTimeout().AsDuration().Milliseconds(), Constraints: map[string]string{},
			Near: s.GetNear(), Apart: append([]string{}, s.GetApart()...), Handoff: s.GetHandoff(),
		},
	}
	maps.Copy(row.Enforced, res.GetEnforced())
	maps.Copy(row.Spec.Constraints, s.GetConstraints())
	for _, e := range res.GetHistory() {
		one := childEntryJSON{Time: timeRow(e.GetTime()), Member: e.GetMember(), Epoch: e.GetEpoch(), What: e.GetWhat(), Reason: e.GetReason()}
		if x := e.GetExit(); x != nil {
			one.Exit = &childExitJSON{x.GetCode(), x.GetSignal(), x.GetOutOfMemory(), x.GetReason(), timeRow(x.GetAt())}
		}
		row.History = append(row.History, one)
	}
	if t := res.GetTrouble(); t != nil {
		row.Trouble = &memberTroubleJSON{t.GetMember(), t.GetError()}
	}
	return row
}

// configJSON is a config as JSON, whatever the other end sent.
func configJSON(config string) json.RawMessage {
	switch {
	case len(config) == 0:
		return json.RawMessage("{}")
	case !json.Valid([]byte(config)):
		return json.RawMessage("null")
	}
	return json.RawMessage(config)
}

func (a *app) printChildDetail(res *controlpb.GetChildResponse) error {
	c, s := res.GetChild(), res.GetSpec()
	w := &detailWriter{Writer: bufio.NewWriter(a.out)}
	w.fact("child", c.GetId())
	state := c.GetState()
	if a.colors() && (state == "failed" || state == "pending" || state == "backoff") {
		state = "\x1b[1;31m" + state + "\x1b[0m"
	}
	if c.GetSince() != nil {
		state += " for " + age(a.now().Sub(c.GetSince().AsTime()))
	}
	w.raw("state", state)
	w.fact("reason", c.GetReason())
	w.fact("member", c.GetMember())
	w.fact("epoch", decimal(c.GetEpoch()))
	if c.GetStarted() != nil {
		w.fact("started", a.ago(c.GetStarted()))
	}
	if c.GetOsPid() != 0 {
		w.fact("os_pid", fmt.Sprint(c.GetOsPid()))
	}
	w.fact("node", c.GetNode())
	if c.GetMemory() > 0 {
		w.fact("memory", size(c.GetMemory()))
	}
	w.fact("restarts", decimal(uint64(c.GetRestarts())))
	w.fact("restart", restartText(s))
	w.fact("strategy", c.GetStrategy())
	w.fact("config", string(configJSON(s.GetConfig())))
	w.fact("limits", limitsText(s.GetLimits(), res.GetEnforced()))
	w.fact("placement", placementText(s))
	w.fact("shutdown_timeout", s.GetShutdownTimeout().AsDuration().String())
	if s.GetHandoff() != "none" {
		w.fact("handoff", s.GetHandoff())
	}
	if len(res.GetHistory()) > 0 {
		w.WriteByte('\n')
		if err := a.historyGrid(res.GetHistory()).write(w, a.width(), a.colors()); err != nil {
			return err
		}
	}
	return w.Flush()
}

func (a *app) historyGrid(history []*controlpb.ChildEntry) *grid {
	g := newGrid(column{name: "time"}, column{name: "member", least: 8}, column{name: "epoch", right: true}, column{name: "what"},
		column{name: "exit"}, column{name: "reason", free: true})
	for _, e := range history {
		reason := e.GetReason()
		if x := e.GetExit().GetReason(); x != "" && !strings.Contains(reason, x) {
			reason = strings.TrimPrefix(reason+"; "+x, "; ")
		}
		g.add(localTime(e.GetTime().AsTime()), e.GetMember(), decimal(e.GetEpoch()), e.GetWhat(), exitText(e.GetExit()), reason)
	}
	return g
}

func localTime(t time.Time) string { return t.Format("2006-01-02 15:04:05Z") }

// exitText is how a run ended, in a word or two.
func exitText(x *controlpb.ChildExit) string {
	switch {
	case x == nil:
		return ""
	case x.GetOutOfMemory():
		return "out of memory"
	case x.GetSignal() != 0:
		return signalName(x.GetSignal())
	}
	return fmt.Sprintf("exit %d", x.GetCode())
}

// signalName names the signals that children usually end by.
func signalName(n int32) string {
	names := map[int32]string{
		1: "SIGHUP", 2: "SIGINT", 3: "SIGQUIT", 4: "SIGILL", 6: "SIGABRT", 8: "SIGFPE", 9: "SIGKILL", 11: "SIGSEGV", 13: "SIGPIPE",
		14: "SIGALRM", 15: "SIGTERM", 24: "SIGXCPU", 25: "SIGXFSZ",
	}
	if name := names[n]; name != "" {
		return name
	}
	return fmt.Sprintf("signal %d", n)
}

func restartText(s *controlpb.ChildSpec) string {
	if s.GetRestart() == "temporary" {
		return "temporary: never"
	}
	times := fmt.Sprintf("at most %d times in %s", s.GetMaxRestarts(), s.GetMaxRestartsIn().AsDuration())
	if s.GetMaxRestarts() < 0 {
		times = "not once"
	}
	return s.GetRestart() + ", " + times
}

func limitsText(l *controlpb.ChildLimits, enforced map[string]string) string {
	var parts []string
	add := func(name, value string, set bool) {
		if !set {
			return
		}
		part := name + " " + value
		if by := enforced[name]; by != "" {
			part += " (" + by + ")"
		}
		parts = append(parts, part)
	}
	add("memory", size(l.GetMemory()), l.GetMemory() > 0)
	add("cpus", fmt.Sprint(l.GetCpus()), l.GetCpus() > 0)
	add("processes", decimal(uint64(l.GetProcesses())), l.GetProcesses() > 0)
	add("open_files", decimal(uint64(l.GetOpenFiles())), l.GetOpenFiles() > 0)
	add("disk", size(l.GetDisk()), l.GetDisk() > 0)
	return strings.Join(parts, ", ")
}

func placementText(s *controlpb.ChildSpec) string {
	parts := []string{orElse(s.GetPlacement(), "as configured")}
	for _, name := range slices.Sorted(maps.Keys(s.GetConstraints())) {
		parts = append(parts, name+"="+s.GetConstraints()[name])
	}
	if s.GetNear() != "" {
		parts = append(parts, "near "+s.GetNear())
	}
	if len(s.GetApart()) > 0 {
		parts = append(parts, "apart from "+strings.Join(s.GetApart(), ", "))
	}
	return strings.Join(parts, ", ")
}
