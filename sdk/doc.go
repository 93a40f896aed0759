// Package sdk is what the author of a debughost plugin imports. A plugin is a
// program of its own that debughost starts and talks to over gRPC; it
// implements one strategy: it finds nodes (Discovery), chooses the member for
// a sandbox (Placement), or runs sandboxes (Sandbox). The whole main of a
// plugin is
//
//	func main() { sdk.Serve(new(strategy)) }
//
// where strategy says in Describe who it is and what its config looks like,
// and implements the interface of its kind. Serve does the rest: the
// handshake, the decoding of the config, its schema, logs, panics, and the
// end of the process when debughost ends. docs/plugin-authoring.md walks
// through one, and package sdk/plugintest checks the result.
//
// The package is not for hosts, which use sdk/wire, and it has nothing of
// debughost itself: it imports nothing above it.
package sdk
