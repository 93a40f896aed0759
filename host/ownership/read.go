package ownership

import (
	"cmp"
	"errors"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/debughost/debughost/host/registry"
	"github.com/debughost/debughost/host/target"
)

// Owner is the member that is attached to the node, or tries to be.
func (o *Ownership) Owner(node string) (member string, ok bool) {
	e, ok := o.cfg.Registry.Lookup(targetPrefix + node)
	return e.Origin, ok
}

// Targets lists the targets of all members, as their owners show them, sorted by
// name; and what was seen and nobody owns yet.
func (o *Ownership) Targets() []target.Info {
	all := map[string]target.Info{}
	theirs := func(e registry.Entry) bool { return e.Origin != o.cfg.Member }
	for e := range o.cfg.Registry.Select(seenPrefix, theirs) {
		node := strings.TrimPrefix(e.Key, seenPrefix)
		v, err := decodeSeen(e)
		if had, ok := all[node]; err == nil && (!ok || had.Reason == "") {
			all[node] = target.Info{Node: node, State: target.Discovered, Reason: v.Reason, Since: time.UnixMilli(v.Since)}
		}
	}
	owned := map[string]bool{}
	for e := range o.cfg.Registry.Select(targetPrefix, theirs) {
		info, err := decodeInfo(e)
		if err != nil {
			info.State = target.Discovered
			info.Reason = err.Error()
		}
		all[info.Node], owned[info.Node] = info, true
	}
	// What this member owns it knows better than the registry, which hears of a
	// node's real name a moment later; and what only it knows.
	for _, info := range o.targets.Targets() {
		if !owned[info.Node] {
			all[info.Node] = info
		}
	}
	out := make([]target.Info, 0, len(all))
	for _, info := range all {
		out = append(out, info)
	}
	slices.SortFunc(out, func(a, b target.Info) int { return cmp.Compare(a.Node, b.Node) })
	return out
}

// Find returns the full name of a node, given that, or the part before the @
// where one node of all members' has it, or an alias of it, and its owner, which is empty while
// nobody owns it. The error is target.ErrNoTarget or target.ErrAmbiguous.
func (o *Ownership) Find(name string) (full, owner string, err error) {
	if owner, ok := o.Owner(name); ok {
		return name, owner, nil
	}
	full, err = target.Match(name, o.known(name))
	if errors.Is(err, target.ErrNoTarget) && o.cfg.Alias != nil {
		if node, ok := o.cfg.Alias(name); ok {
			full, err = target.Match(node, o.known(node))
		}
	}
	if err != nil {
		return "", "", err
	}
	owner, _ = o.Owner(full)
	return full, owner, nil
}

// OnMachine returns the members on whose machine a node is, as discovery tells
// them.
func (o *Ownership) OnMachine(node string) []string {
	if full, _, err := o.Find(node); err == nil {
		node = full
	}
	var out []string
	for _, e := range o.cfg.Registry.All(seenPrefix + node) {
		if v, err := decodeSeen(e); err == nil && v.Local {
			out = append(out, e.Origin)
		}
	}
	return out
}

// known are the names of nodes that a name may mean; if there is none, of all.
func (o *Ownership) known(name string) iter.Seq[string] {
	return func(yield func(string) bool) {
		any := false
		for _, part := range []string{name, ""} {
			for _, prefix := range []string{targetPrefix, seenPrefix} {
				for e := range o.cfg.Registry.Select(prefix+part, func(registry.Entry) bool { return true }) {
					any = true
					if !yield(strings.TrimPrefix(e.Key, prefix)) {
						return
					}
				}
			}
			if any {
				break
			}
		}
		for _, info := range o.targets.Targets() {
			if !yield(info.Node) {
				return
			}
		}
	}
}
