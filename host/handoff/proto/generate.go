// Package handoffpb is the wire contract of a child's state on its way between
// members, and the Go code that protoc makes of it. It has no logic: package handoff
// speaks it.
//
//	go generate ./host/handoff/proto
package handoffpb

//go:generate sh generate.sh
