// Package plugin runs the plugins of a member: it finds and verifies their
// files, starts one process for each topology, checks who answers, hands over
// the config, watches, starts again what ended, and swaps strategies on a
// reload. What a plugin found stays in force while it is down.
//
// It does not decide what to do with nodes that were found, and it does not
// speak the plugin contract itself: that is package sdk/wire. Nothing a plugin
// does (end, hang, flood, send garbage) costs more than an error, an event and
// its own process.
//
//	m := plugin.New(plugin.Options{SocketDir: dir, Log: log, Events: bus, OnNodes: found})
//	m.Apply(cfg.Plugins, plugin.Specs(cfg.Topologies))
//	err := m.Run(ctx) // returns when all processes have ended
//
// A topology has an actor, the slot, which makes all its decisions and all its
// callbacks. A slot has one instance, or two while one strategy takes over
// from another; an instance starts processes one after the other until told to
// stop or out of restarts.
package plugin
