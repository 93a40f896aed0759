// Package blobpb is the wire contract of blobs on their way between members, and the
// Go code that protoc makes of it. It has no logic: package blob
// speaks it.
//
//	go generate ./host/blob/proto
package blobpb

//go:generate sh generate.sh
