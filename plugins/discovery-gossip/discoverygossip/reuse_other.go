//go:build !unix

package discoverygossip

import "syscall"

// shared would let several sockets have one port; here each member of a machine
// needs a port of its own.
func shared(string, string, syscall.RawConn) error { return nil }
