// Package controlpb is the wire form of the control API: control.proto is its
// single source, the Go beside it is generated and committed.
//
// It is not a client: package control dials, and turns errors back into what a
// person can read.
//
//	c := controlpb.NewTargetsClient(conn)
//	res, err := c.ListTargets(ctx, &controlpb.ListTargetsRequest{})
//
// third_party holds the two files of googleapis that the annotations need,
// under their own licence (Apache-2.0).
package controlpb

//go:generate sh generate.sh
