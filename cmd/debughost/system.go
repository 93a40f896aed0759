package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/debughost/debughost/control"
	controlpb "github.com/debughost/debughost/control/proto"
)

func (a *app) systemCommand() *cobra.Command {
	var window time.Duration
	req := &controlpb.GetSystemsRequest{}
	cmd := &cobra.Command{
		Use:   "system [NODE…]",
		Short: "Show nodes as a whole: versions, memory, schedulers, limits, connections",
		Long: `Show how nodes are as a whole: of several a line each, of one all there is.

What is near a limit is pointed out: tables of the runtime (processes, ports, atoms,
ETS tables, file descriptors) from 80 % on, allocators that use less than half of
100 MB or more, and connections to other nodes whose queue is half full.

How busy schedulers are, and what happens a second, is measured over --window. To
measure schedulers the runtime counts their time meanwhile; it stops when the
question ends, however it does.`,
		Example: `  debughost system
  debughost system shop@db1 --window 5s
  debughost system -o json | jq '.system[] | {node, atoms: (.limits[] | select(.name == "atom") | .used)}'`,
		ValidArgsFunction: a.completeNodes(-1),
		RunE: func(cmd *cobra.Command, nodes []string) error {
			if window < 0 || window > control.MaxSystemWindow {
				return usagef("system: window %v is not between 0 and %v", window, control.MaxSystemWindow)
			}
			req.Nodes, req.Timeout, req.Window = nodes, a.targetTimeout(), durationpb.New(window)
			return a.withClient(cmd.Context(), func(ctx context.Context, c *control.Client) error {
				return a.system(ctx, c, req)
			})
		},
	}
	cmd.Flags().DurationVar(&window, "window", 200*time.Millisecond, "how long schedulers and rates are measured; 0 leaves them out")
	return cmd
}

func (a *app) system(ctx context.Context, c *control.Client, req *controlpb.GetSystemsRequest) error {
	usual := answerTime
	if a.timeout > 0 {
		usual = a.timeout
	}
	ctx, cancel := context.WithTimeout(ctx, usual+req.GetWindow().AsDuration()+grace)
	defer cancel()
	res, err := c.Systems.GetSystems(ctx, req)
	if err != nil {
		return err
	}
	if all := res.GetSystems(); a.output == table && len(all) == 1 && len(req.GetNodes()) == 1 && len(res.GetErrors()) == 0 {
		return a.printSystem(all[0])
	}
	l := listing[systemJSON]{
		plural: "system", errors: res.GetErrors(), note: "no node is attached",
		header: systemHeader, csv: systemCSV,
		grid: []column{
			{name: "node", least: 12}, {name: "otp"}, {name: "elixir", dull: true}, {name: "uptime", right: true}, {name: "memory", right: true},
			{name: "busy", right: true}, {name: "run_queue", right: true}, {name: "reductions/s", right: true, spare: 1},
			{name: "processes", right: true}, {name: "nodes", right: true}, {name: "near its limit", free: true, dull: true},
		},
		cells: systemCells,
	}
	for _, s := range res.GetSystems() {
		l.rows = append(l.rows, systemRow(s))
	}
	return printListing(a, l)
}

// systemJSON is a node in JSON; its keys are a contract. They are OTP's names.
type systemJSON struct {
	Node                       string            `json:"node"`
	OTPRelease                 string            `json:"otp_release"`
	ERTSVersion                string            `json:"erts_version"`
	ElixirVersion              string            `json:"elixir_version"`
	SystemArchitecture         string            `json:"system_architecture"`
	EmuFlavor                  string            `json:"emu_flavor"`
	OSPid                      string            `json:"os_pid"`
	Uptime                     float64           `json:"uptime"` // seconds
	LogicalProcessors          uint64            `json:"logical_processors"`
	LogicalProcessorsAvailable uint64            `json:"logical_processors_available"`
	Schedulers                 uint64            `json:"schedulers"`
	SchedulersOnline           uint64            `json:"schedulers_online"`
	DirtyCPUSchedulers         uint64            `json:"dirty_cpu_schedulers"`
	DirtyIOSchedulers          uint64            `json:"dirty_io_schedulers"`
	RunQueue                   uint64            `json:"run_queue"` // all together
	RunQueues                  []uint64          `json:"run_queues"`
	Modules                    uint64            `json:"modules"`
	Memory                     map[string]uint64 `json:"memory"` // bytes
	Allocators                 []allocatorJSON   `json:"allocators"`
	Limits                     []limitJSON       `json:"limits"`
	Nodes                      []neighbourJSON   `json:"nodes"`
	DistBufBusyLimit           uint64            `json:"dist_buf_busy_limit"`
	Activity                   *activityJSON     `json:"activity"`
	Near                       []string          `json:"near"` // what is near its limit, in words
}

type allocatorJSON struct {
	Name     string  `json:"name"`
	Blocks   uint64  `json:"blocks"`   // bytes in use
	Carriers uint64  `json:"carriers"` // bytes held
	Usage    float64 `json:"usage"`    // of them, 0 to 1
}

type limitJSON struct {
	Name  string  `json:"name"`
	Used  uint64  `json:"used"`
	Limit uint64  `json:"limit"`
	Share float64 `json:"share"`
}

type neighbourJSON struct {
	Name     string `json:"name"`
	Hidden   bool   `json:"hidden"`
	Queue    uint64 `json:"queue"`
	Messages bool   `json:"messages"` // queue counts messages, not bytes
	Input    uint64 `json:"input"`
	Output   uint64 `json:"output"`
}

type activityJSON struct {
	Window               float64            `json:"window"`                // seconds
	SchedulerUtilization float64            `json:"scheduler_utilization"` // 0 to 1, as the following
	Schedulers           []float64          `json:"schedulers"`
	DirtyCPU             float64            `json:"dirty_cpu"`
	DirtyIO              float64            `json:"dirty_io"`
	Rates                map[string]float64 `json:"rates"` // a second
}

func systemRow(s *controlpb.System) systemJSON {
	r := systemJSON{
		Node: s.GetNode(), OTPRelease: s.GetOtpRelease(), ERTSVersion: s.GetErtsVersion(), ElixirVersion: s.GetElixirVersion(),
		SystemArchitecture: s.GetSystemArchitecture(), EmuFlavor: s.GetEmuFlavor(), OSPid: s.GetOsPid(), Uptime: s.GetUptime().AsDuration().Seconds(),
		LogicalProcessors: s.GetLogicalProcessors(), LogicalProcessorsAvailable: s.GetLogicalProcessorsAvailable(),
		Schedulers: s.GetSchedulers(), SchedulersOnline: s.GetSchedulersOnline(), DirtyCPUSchedulers: s.GetDirtyCpuSchedulers(),
		DirtyIOSchedulers: s.GetDirtyIoSchedulers(), RunQueues: append([]uint64{}, s.GetRunQueues()...), Modules: s.GetModules(),
		Memory: map[string]uint64{}, Allocators: []allocatorJSON{}, Limits: []limitJSON{}, Nodes: []neighbourJSON{},
		DistBufBusyLimit: s.GetDistBufBusyLimit(), Near: []string{},
	}
	for _, n := range s.GetRunQueues() {
		r.RunQueue += n
	}
	for _, m := range s.GetMemory() {
		r.Memory[m.GetName()] = m.GetValue()
	}
	for _, x := range s.GetAllocators() {
		r.Allocators = append(r.Allocators, allocatorJSON{x.GetName(), x.GetBlocks(), x.GetCarriers(), round(share(x.GetBlocks(), x.GetCarriers()))})
	}
	for _, l := range s.GetLimits() {
		r.Limits = append(r.Limits, limitJSON{l.GetName(), l.GetUsed(), l.GetLimit(), round(share(l.GetUsed(), l.GetLimit()))})
	}
	for _, n := range s.GetNodes() {
		r.Nodes = append(r.Nodes, neighbourJSON{n.GetName(), n.GetHidden(), n.GetQueue(), n.GetMessages(), n.GetInput(), n.GetOutput()})
	}
	if act := s.GetActivity(); act != nil {
		r.Activity = &activityJSON{
			Window: act.GetWindow().AsDuration().Seconds(), SchedulerUtilization: round(act.GetTotal()), Schedulers: []float64{},
			DirtyCPU: round(act.GetDirtyCpu()), DirtyIO: round(act.GetDirtyIo()), Rates: map[string]float64{},
		}
		for _, b := range act.GetSchedulers() {
			r.Activity.Schedulers = append(r.Activity.Schedulers, round(b))
		}
		for _, rate := range act.GetRates() {
			r.Activity.Rates[rate.GetName()] = round(rate.GetValue())
		}
	}
	r.Near = append(r.Near, nearLimits(r)...)
	return r
}
