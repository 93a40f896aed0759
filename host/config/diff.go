package config

import (
	"bytes"
	"reflect"
	"slices"
)

// Changes is what differs between two configurations.
type Changes struct {
	Topologies SectionChanges
	Placements SectionChanges
	Sandboxes  SectionChanges
	Live       []string // changed keys that take effect at once, sorted
	Restart    []string // changed keys that take effect when the host starts, sorted
}

// SectionChanges names the sections of plugins that differ. A changed checksum of
// its plugin changes a section.
type SectionChanges struct{ Added, Removed, Changed []string }

func (c SectionChanges) none() bool { return len(c.Added)+len(c.Removed)+len(c.Changed) == 0 }

// None reports whether nothing differs.
func (c Changes) None() bool {
	return len(c.Live)+len(c.Restart) == 0 && c.Topologies.none() && c.Placements.none() && c.Sandboxes.none()
}

// Diff says what a reload from old to next changes.
func Diff(old, next *Config) Changes {
	var c Changes
	a, b := old.layout(), next.layout()
	for section := range fieldsOf(a.Type()) {
		if section.typ.Kind() == reflect.Map { // of plugins
			continue
		}
		as, bs := fieldOf(a, section.key), fieldOf(b, section.key)
		for f := range fieldsOf(section.typ) {
			if same(fieldOf(as, f.key), fieldOf(bs, f.key)) {
				continue
			}
			key := section.key + "." + f.key
			if f.tag.Get("reload") == "restart" {
				c.Restart = append(c.Restart, key)
			} else {
				c.Live = append(c.Live, key)
			}
		}
	}
	slices.Sort(c.Live)
	slices.Sort(c.Restart)

	c.Topologies = diffSections(old.Topologies, next.Topologies, func(t Topology) string { return t.Name }, Topology.equal)
	c.Placements = diffSections(old.Placements, next.Placements, func(s Strategy) string { return s.Name }, Strategy.equal)
	c.Sandboxes = diffSections(old.Sandboxes, next.Sandboxes, func(s Strategy) string { return s.Name }, Strategy.equal)
	return c
}

func diffSections[T any](old, next []T, name func(T) string, equal func(a, b T) bool) (c SectionChanges) {
	before := map[string]T{}
	for _, t := range old {
		before[name(t)] = t
	}
	for _, t := range next {
		was, ok := before[name(t)]
		switch {
		case !ok:
			c.Added = append(c.Added, name(t))
		case !equal(was, t):
			c.Changed = append(c.Changed, name(t))
		}
		delete(before, name(t))
	}
	for _, t := range old {
		if _, ok := before[name(t)]; ok {
			c.Removed = append(c.Removed, name(t))
		}
	}
	return c
}

func (c *Config) layout() reflect.Value {
	return reflect.ValueOf(layout{
		Member: c.Member, Cluster: c.Cluster, API: c.API, Metrics: c.Metrics, Log: c.Log, Node: c.Node,
		Targets: c.Targets, Plugins: c.Plugins, Supervisor: c.Supervisor, Events: c.Events,
	})
}

func fieldOf(v reflect.Value, key string) reflect.Value {
	for i := range v.NumField() {
		if v.Type().Field(i).Tag.Get("koanf") == key {
			return v.Field(i)
		}
	}
	panic("no such key: " + key)
}

// same compares two values; an empty list is the same as none.
func same(a, b reflect.Value) bool {
	if k := a.Kind(); (k == reflect.Slice || k == reflect.Map) && a.Len()+b.Len() == 0 {
		return true
	}
	return reflect.DeepEqual(a.Interface(), b.Interface())
}

func (t Topology) equal(o Topology) bool {
	return t.Name == o.Name && t.Strategy == o.Strategy && t.Finds == o.Finds && t.Checksum == o.Checksum && bytes.Equal(t.Config, o.Config)
}
