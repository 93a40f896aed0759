// Package linkpb is the wire contract between members, and the Go code that
// protoc makes of it. It has no logic: package link speaks it.
//
//	go generate ./host/link/proto
package linkpb

//go:generate sh generate.sh
