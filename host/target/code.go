package target

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/debughost/debughost/erl/etf"
	"github.com/debughost/debughost/erl/node"
)

const (
	// maxModules bounds the modules of all applications that are taken together.
	maxModules = 20_000
	// maxObjectCode bounds one module, and what one answer has of modules beyond its
	// first, in bytes.
	maxObjectCode = 4 << 20
	// maxStates bounds the states of one answer, in bytes.
	maxStates = 4 << 20
	// maxStateProcess is the largest process, in bytes, whose state is read: the node
	// sends it whole.
	maxStateProcess = 64 << 20
	// maxStateProcesses bounds the processes of one question.
	maxStateProcesses = 100
)

// CodeQuery asks what is to be taken of a target to run its code elsewhere.
type CodeQuery struct {
	Ask
	Node    string
	Apps    []string // with those that they need; none means the target's own
	Secrets bool     // also what may be secret in the environment
}

// Code is what applications of a target are made of, but for their modules.
type Code struct {
	Node      string
	Apps      []CodeApp // by name
	Start     []byte    // those that run, as a term that file:consult reads
	SysConfig []byte    // their environment, as config files have it
	NoEnv     string    // why no environment is in it
}

// CodeApp is one application.
type CodeApp struct {
	Name, Version string
	Modules       []string
	File          []byte   // the .app file
	Secrets       []string // keys that are left out of the environment: they may be secret
	Unwritable    []string // likewise: a pid, a function or the like is in them
}

// notTaken are the applications that Elixir and Mix bring along, beside OTP's.
var notTaken = map[string]bool{
	"elixir": true, "eex": true, "ex_unit": true, "iex": true, "logger": true, "mix": true, "hex": true, "rebar": true, "rebar3": true,
	"asn1": true, "common_test": true, "compiler": true, "crypto": true, "debugger": true, "dialyzer": true, "diameter": true, "edoc": true,
	"eldap": true, "erl_interface": true, "erts": true, "et": true, "eunit": true, "ftp": true, "inets": true, "jinterface": true, "kernel": true,
	"megaco": true, "mnesia": true, "observer": true, "odbc": true, "os_mon": true, "parsetools": true, "public_key": true, "reltool": true,
	"runtime_tools": true, "sasl": true, "snmp": true, "ssh": true, "ssl": true, "stdlib": true, "syntax_tools": true, "tftp": true, "tools": true,
	"wx": true, "xmerl": true,
}

// Code tells what applications of a target are made of. It takes plain calls, but for
// the environment, whose secrets the helper module takes out on the target.
func (m *Manager) Code(ctx context.Context, q CodeQuery) (Code, error) {
	ctx, cancel := m.deadline(ctx, q.Timeout, 0)
	defer cancel()
	t, link, err := m.one(q.Node)
	if err != nil {
		return Code{}, err
	}
	all, err := t.plainApps(ctx, link)
	if err != nil {
		return Code{}, err
	}
	d := &description{t: t, link: link, loaded: map[string]App{}, out: Code{Node: link.Name()}}
	wanted := q.Apps
	for _, a := range all {
		d.loaded[a.Name] = a
		if len(q.Apps) == 0 && !notTaken[a.Name] {
			wanted = append(slices.Clip(wanted), a.Name)
		}
	}
	if len(wanted) == 0 {
		return Code{}, hint(fmt.Errorf("take code from %s: %w: it has no applications but those of OTP and Elixir", link.Name(), ErrNoApp), "name some that it has, see `debughost apps %s`", link.Name())
	}
	for _, name := range wanted {
		if _, ok := d.loaded[name]; !ok {
			return Code{}, unknownApp(name, link)
		}
		if err := d.add(ctx, name); err != nil {
			return Code{}, err
		}
	}
	slices.SortFunc(d.out.Apps, func(a, b CodeApp) int { return strings.Compare(a.Name, b.Name) })
	d.start()
	if err := d.environment(ctx, q.Secrets); err != nil {
		return Code{}, err
	}
	return d.out, nil
}

// description gathers what applications are made of.
type description struct {
	t       *target
	link    *node.Peer
	loaded  map[string]App
	modules int
	out     Code
}

// appKeys are those of a .app file that are taken over. The environment goes into the
// config, where it is without secrets.
var appKeys = []string{
	"description", "vsn", "modules", "registered", "included_applications", "applications", "optional_applications", "mod", "start_phases", "maxT",
}

// add adds an application, and those that it needs.
func (d *description) add(ctx context.Context, name string) error {
	if slices.ContainsFunc(d.out.Apps, func(a CodeApp) bool { return a.Name == name }) {
		return nil
	}
	reply, err := d.t.call(ctx, d.link, "application", "get_all_key", etf.Atom(name))
	if err != nil {
		return err
	}
	answer, ok := reply.(etf.Tuple)
	if !ok || len(answer) != 2 || atom(answer[0]) != "ok" {
		return unknownApp(name, d.link)
	}
	var keys, needs etf.List
	app := CodeApp{Name: name, Version: d.loaded[name].Version}
	for _, e := range tuples(answer[1]) {
		key, list := atom(e[0]), etf.List(nil)
		if elements, ok := etf.Elements(e[1]); ok {
			list = elements
		}
		switch {
		case !slices.Contains(appKeys, key), e[1] == etf.Term(etf.Atom("undefined")), key == "mod" && len(list) == 0 && isList(e[1]):
			continue
		case key == "modules":
			for _, m := range list {
				app.Modules = append(app.Modules, atom(m))
			}
		case key == "applications", key == "included_applications":
			needs = append(needs, list...)
		}
		keys = append(keys, e)
	}
	slices.Sort(app.Modules)
	if d.modules += len(app.Modules); d.modules > maxModules {
		return fmt.Errorf("take code from %s: %w: there are more than %d modules", d.link.Name(), ErrBadQuery, maxModules)
	}
	app.File = consultable(etf.Tuple{etf.Atom("application"), etf.Atom(name), keys})
	d.out.Apps = append(d.out.Apps, app)
	for _, need := range needs {
		if _, ok := d.loaded[atom(need)]; ok && !notTaken[atom(need)] {
			if err := d.add(ctx, atom(need)); err != nil {
				return err
			}
		}
	}
	return nil
}

func isList(t etf.Term) bool {
	_, ok := etf.Elements(t)
	return ok
}

// consultable is a term as file:consult reads it.
func consultable(t etf.Term) []byte {
	return append(etf.AppendFormat([]byte("%% coding: utf-8\n"), t, etf.PrintOptions{Syntax: etf.Erlang}), ".\n"...)
}

func (d *description) start() {
	list := etf.List{}
	for _, a := range d.out.Apps {
		if d.loaded[a.Name].State == "running" {
			list = append(list, etf.Atom(a.Name))
		}
	}
	d.out.Start = consultable(list)
}

// environment reads that of all applications, as text that the target has written: it
// knows how its terms are read again.
func (d *description) environment(ctx context.Context, secrets bool) error {
	var parts [][]byte
	for i := range d.out.Apps {
		app := &d.out.Apps[i]
		reply, err := d.t.companionCall(ctx, d.link, envModule, "take", etf.Binary(app.Name), etf.Atom(fmt.Sprint(secrets)))
		if err == errNoAgent {
			d.out.NoEnv = "the helper module, which takes out secrets, is not used on " + d.link.Name()
			break
		}
		if err != nil {
			return err
		}
		answer, ok := reply.(etf.Tuple)
		if !ok || len(answer) != 4 {
			return fmt.Errorf("read the environment of %s on %s: got %s", app.Name, d.link.Name(), printed(reply))
		}
		line, _ := answer[1].(etf.Binary)
		parts = append(parts, []byte(line))
		for n, to := range map[int]*[]string{2: &app.Secrets, 3: &app.Unwritable} {
			keys, _ := etf.Elements(answer[n])
			for _, k := range keys {
				*to = append(*to, etf.Format(k, etf.PrintOptions{Syntax: etf.Erlang, MaxBytes: 200}))
			}
		}
	}
	d.out.SysConfig = slices.Concat([]byte("[\n"), bytes.Join(parts, []byte(",\n")), []byte("\n].\n"))
	return nil
}

// ModulesQuery asks for the object code of modules.
type ModulesQuery struct {
	Ask
	Node    string
	Modules []string
}

// ObjectCode is a module as it lies on the target's disk.
type ObjectCode struct {
	Module string
	Code   []byte
}

// ObjectCode reads modules in their order, one call each, until they are some
// megabytes: it may be the first ones only, and is one at least.
func (m *Manager) ObjectCode(ctx context.Context, q ModulesQuery) ([]ObjectCode, error) {
	ctx, cancel := m.deadline(ctx, q.Timeout, 0)
	defer cancel()
	t, link, err := m.one(q.Node)
	if err != nil {
		return nil, err
	}
	var out []ObjectCode
	total := 0
	for _, name := range q.Modules {
		if total >= maxObjectCode/2 {
			break
		}
		reply, err := t.call(ctx, link, "code", "get_object_code", etf.Atom(name))
		if err != nil {
			return nil, err
		}
		answer, ok := reply.(etf.Tuple)
		if !ok || len(answer) != 3 {
			return nil, hint(fmt.Errorf("read module %s of %s: %w: the node cannot read its .beam file", name, link.Name(), ErrNotHere), "was it loaded from elsewhere, or removed from the disk? naming other applications leaves it out")
		}
		code, ok := answer[1].(etf.Binary)
		switch {
		case !ok || !bytes.HasPrefix([]byte(code), []byte("FOR1")) && !bytes.HasPrefix([]byte(code), []byte{0x1f, 0x8b}):
			return nil, fmt.Errorf("read module %s of %s: that is no compiled module", name, link.Name())
		case len(code) > maxObjectCode:
			return nil, fmt.Errorf("read module %s of %s: it has %d bytes, and at most %d are taken", name, link.Name(), len(code), maxObjectCode)
		}
		out = append(out, ObjectCode{name, []byte(code)})
		total += len(code)
	}
	return out, nil
}

// StatesQuery asks for the states of processes as terms.
type StatesQuery struct {
	Ask
	Node      string
	Processes []string // pids or names of registered processes
}

// States reads the states of registered processes that answer to sys messages, as a
// list of their names and states in the external term format.
func (m *Manager) States(ctx context.Context, q StatesQuery) ([]byte, error) {
	if len(q.Processes) > maxStateProcesses {
		return nil, fmt.Errorf("read states of %s: %w: of %d processes, and at most %d may be", q.Node, ErrBadQuery, len(q.Processes), maxStateProcesses)
	}
	ctx, cancel := m.deadline(ctx, q.Timeout, 0)
	defer cancel()
	t, link, err := m.one(q.Node)
	if err != nil {
		return nil, err
	}
	list := etf.List{}
	for _, p := range q.Processes {
		pid, err := t.process(ctx, link, p, false)
		if err != nil {
			return nil, err
		}
		info, err := t.processInfo(ctx, link, pid, []etf.Atom{"registered_name", "memory"})
		if err != nil {
			return nil, err
		}
		name := atom(info["registered_name"])
		switch {
		case name == "":
			return nil, hint(fmt.Errorf("read the state of %s on %s: %w: it has no registered name, by which a sandbox would find it again", p, link.Name(), ErrBadQuery), "name a registered process")
		case count(info["memory"]) > maxStateProcess:
			return nil, fmt.Errorf("read the state of %s on %s: %w: the process has %d bytes, and at most %d are taken", p, link.Name(), ErrNotHere, count(info["memory"]), maxStateProcess)
		}
		state, err := t.call(ctx, link, "sys", "get_state", pid, etf.Int(m.cfg.CallTimeout.Milliseconds()))
		if err != nil {
			return nil, hint(fmt.Errorf("read the state of %s on %s: %w", p, link.Name(), err), "it has to be a gen_server, an Agent or the like, and not busy")
		}
		list = append(list, etf.Tuple{etf.Binary(strings.TrimPrefix(name, "Elixir.")), state})
	}
	data, err := etf.Encode(list)
	if err == nil && len(data) > maxStates {
		err = fmt.Errorf("%w: they have %d bytes together, and at most %d are taken", ErrNotHere, len(data), maxStates)
	}
	if err != nil {
		return nil, fmt.Errorf("read states of %s: %w", link.Name(), err)
	}
	return data, nil
}
