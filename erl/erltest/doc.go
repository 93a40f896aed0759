// Package erltest gives tests real BEAM nodes, an EPMD of their own, and a
// scripted peer that misbehaves on purpose.
//
// It is not a distribution client: a node is steered through a pair of pipes
// (file descriptors 3 and 4 of the node), so that a test of the distribution
// code does not depend on the code under test.
//
//	b := erltest.Start(t, erltest.Options{OTP: "27"})
//	got := b.MustEval(t, "1 + 1") // "2"
//	b.Kill()                      // SIGKILL; Restart starts it again under its name
//
// Everything listens on the loopback interface only, and everything ends with
// the test: by t.Cleanup, by the closing of the control pipe when the test
// process dies, and on Linux by the parent-death signal, which also reaches a
// frozen node.
//
// # Goroutines
//
// Each Beam has two, from its start until its process has ended: one starts
// the OS process and waits for it, one reads the control pipe. Each EPMD has
// one, which waits for its process. A test that checks for leaked goroutines
// registers its check (t.Cleanup) before it calls Start, or ignores those that
// run after Start.
package erltest
