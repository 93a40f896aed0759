// Package epmd speaks to the Erlang Port Mapper Daemon, which knows the
// distribution ports of the nodes on its machine: it looks up one node, lists
// all of them, and registers our own.
//
// It is not a daemon itself and starts none; package erltest has one for
// tests. It does not connect to nodes either, which is package dist.
//
//	c, err := epmd.FromEnv(os.Getenv)
//	node, err := c.Lookup(ctx, "10.0.0.5", "shop")
//	if errors.Is(err, epmd.ErrNotRegistered) { … }
//	addr := net.JoinHostPort("10.0.0.5", strconv.Itoa(node.Port))
//
// The protocol is described in "EPMD Protocol" of the ERTS User's Guide.
package epmd
