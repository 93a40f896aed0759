// Package debughost holds the one file that is reference, documentation and
// built-in default at once: config.toml. It has no code; the program is
// cmd/debughost.
//
//	fmt.Print(debughost.ReferenceConfig)
package debughost

import _ "embed"

// ReferenceConfig is the commented reference configuration. It is also what a
// host runs on without any file: package host/config reads the defaults from
// it.
//
//go:embed config.toml
var ReferenceConfig string
