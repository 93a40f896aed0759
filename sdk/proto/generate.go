// Package pluginpb is the wire contract between debughost and its plugins,
// and the Go code that protoc makes of it. It has no logic: authors of plugins
// in Go use package sdk, hosts use package sdk/wire. An author in another
// language starts from the .proto files here and from the handshake that
// package sdk/wire documents.
//
// The generated files are committed. They change with the .proto files only:
//
//	go generate ./sdk/proto
package pluginpb

//go:generate sh generate.sh
