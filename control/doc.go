// Package control is the control API of a member: the server that answers on
// the member's Unix socket, and the client that every front-end uses.
//
// It knows who may call what (the role that each method of control.proto
// names; unknown means denied), writes what changes something to an audit log,
// bounds what is asked, and turns errors into a code, what was tried and a
// hint. It does none of the work itself: that is the Engine's, which package
// host implements.
//
//	srv := control.NewServer(engine, control.Options{Socket: path, Log: log})
//	err := srv.Run(ctx) // until ctx ends
//
//	c, err := control.Dial(ctx, path)
//	defer c.Close()
//	res, err := c.Targets.ListTargets(ctx, &controlpb.ListTargetsRequest{})
package control
