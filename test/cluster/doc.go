// Package cluster tests debughosts that form a cluster as their users have
// them: the real binaries and real BEAM nodes, each on a machine of its own,
// which is a network namespace, and what goes wrong between machines.
//
// The tests need root, ip and iptables. The soak test, which mixes faults at
// random, runs with make soak; see docs/operations.md.
package cluster
