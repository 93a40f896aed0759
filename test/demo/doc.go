// Command demo shows debughost on a small real Elixir system: it starts two
// nodes, shop and billing, then debughost on its default configuration, shows
// what `debughost targets` and `debughost ps` say about them, and keeps all of
// it running until Ctrl-C. Without a terminal it stops after showing that.
//
// The system has a fault, so that there is something to find: a mailbox that
// leaks, or another that -fault chooses; see faults.go and shop/lib/shop/fault.ex.
// The pages in docs/questions are written with it.
//
// It is no test and no fixture of one. It leaves the user's own nodes alone: it
// has an EPMD on a port of its own, a home directory with a cookie of its own,
// and a data directory of its own, which all go when it ends. It ends only
// processes that it started.
//
//	make demo
//	make demo FAULT=loop
package main
