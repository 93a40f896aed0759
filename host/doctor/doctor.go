// Package doctor looks at what usually keeps a debughost from working: the
// configuration, the cookie, this machine's name and EPMD, the plugins, the
// ports, the data directory, the cluster key and the files of the service.
//
// It needs no member and changes nothing. What only a member knows (its
// targets, the other members) is asked through the control API, which is not
// done here.
//
//	for _, c := range doctor.Examine(ctx, doctor.Options{DataDir: dir}) { … }
package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/debughost/debughost/erl/epmd"
	"github.com/debughost/debughost/host/config"
)

// State is how a check came out.
type State string

// The states of a check.
const (
	OK   State = "ok"
	Warn State = "warn" // worth a look; debughost works
	Fail State = "fail" // something does not work
)

// Check is one thing that was looked at.
type Check struct {
	Name   string // what: cookie, or with its object: epmd db1
	State  State
	Detail string // what was found
	Hint   string // what to do about it; may be empty
}

// Options say what to look at. The zero value of all but DataDir is what a
// member that is started now would see.
type Options struct {
	Sources config.Sources
	DataDir string
	// Running says that a member runs here: that ports are taken is as it
	// should be.
	Running bool

	Executable string   // the program beside which plugins are looked for; default os.Executable()
	UnitDirs   []string // where units of systemd are looked for; default the system's
	Hostname   string   // this machine's name; default os.Hostname()
	Getenv     func(string) string
}

// examination is one run. Its parts append to checks.
type examination struct {
	Options
	cfg    *config.Config // nil where it has problems
	epmd   *epmd.Client
	checks []Check
}

// Examine makes all checks, one after the other. It returns when ctx ends with
// what it has until then.
func Examine(ctx context.Context, o Options) []Check {
	e := &examination{Options: o}
	if e.Getenv == nil {
		e.Getenv = os.Getenv
	}
	if e.UnitDirs == nil {
		e.UnitDirs = systemUnits
	}
	var err error
	if e.Executable == "" {
		if e.Executable, err = os.Executable(); err != nil {
			e.fail("program", err, "")
		}
	}
	if e.Hostname == "" {
		if e.Hostname, err = os.Hostname(); err != nil {
			e.fail("host name", err, "give this machine a name (hostnamectl hostname NAME)")
		}
	}
	e.configuration()
	for _, look := range []func(context.Context){
		e.hostname, e.cookies, e.routes, e.portMappers, e.plugins, e.dataDir, e.ports, e.clusterKey, e.clock, e.service,
	} {
		if ctx.Err() != nil {
			break
		}
		look(ctx)
	}
	return e.checks
}

func (e *examination) add(name string, state State, hint, format string, args ...any) {
	e.checks = append(e.checks, Check{Name: name, State: state, Detail: fmt.Sprintf(format, args...), Hint: hint})
}

func (e *examination) ok(name, format string, args ...any) { e.add(name, OK, "", format, args...) }

func (e *examination) fail(name string, err error, hint string) { e.add(name, Fail, hint, "%v", err) }

// configuration reads it. What depends on it is left out where it has problems.
func (e *examination) configuration() {
	cfg, err := config.Load(e.Sources)
	var problems *config.Problems
	switch {
	case errors.As(err, &problems):
		for _, p := range problems.List {
			hint := p.Hint
			p.Hint = ""
			e.add("config", Fail, hint, "%s", p.Error())
		}
	case err != nil:
		e.fail("config", err, "")
	case cfg.File == "":
		e.cfg = cfg
		e.ok("config", "built-in defaults: there is no configuration file")
	default:
		e.cfg = cfg
		e.ok("config", "%s is in order", cfg.File)
	}
}
