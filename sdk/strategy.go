package sdk

import (
	"context"
	"fmt"
	"regexp"
	"runtime/debug"
)

// Kind is what a plugin is for.
type Kind string

// The kinds of plugins.
const (
	KindDiscovery Kind = "discovery"
	KindPlacement Kind = "placement"
	KindSandbox   Kind = "sandbox"
)

// CapabilitySnapshot is reported by a Sandbox that is a Snapshotter.
const CapabilitySnapshot = "snapshot"

// CapabilityReload is reported by a Sandbox that is a Reloader.
const CapabilityReload = "reload"

// CapabilityOperate is reported by a Sandbox that is an Operator.
const CapabilityOperate = "operate"

// Strategy is what Serve serves. Beside Describe it implements exactly one of
// Discovery, Placement and Sandbox, and optionally Configured and io.Closer,
// which is called when the plugin ends in peace.
type Strategy interface {
	// Describe is called once, before anything else.
	Describe() Info
}

// Info is what a strategy says about itself.
type Info struct {
	// Name selects the plugin in a config and names its file: lower case
	// letters, digits and dashes, beginning with the kind: "discovery-dns".
	Name string
	// Version is the plugin's semantic version. When empty it is the version
	// of the main module as built, or "devel".
	Version string
	// Config points to the struct that the plugin's section of the config is
	// decoded into, see DecodeConfig. What it holds are the defaults. It may
	// be the strategy itself. Nil means that no key is allowed.
	Config any
	// Schema overrides the JSON Schema that is derived from Config.
	Schema []byte
}

// Configured is implemented by a strategy that has something to do between
// the decoding of its config and the first call: check what a schema cannot
// say, compile a pattern, open a file. A *ConfigError names the keys at fault.
// Its context knows the plugin's directory, see StateDirFrom.
type Configured interface {
	Configured(ctx context.Context) error
}

// Description is what a host learns of a plugin.
type Description struct {
	Name         string
	Version      string
	Kind         Kind
	Capabilities []string
	ConfigSchema []byte // a JSON Schema
}

// Has tells whether the plugin reports the capability.
func (d Description) Has(capability string) bool {
	for _, c := range d.Capabilities {
		if c == capability {
			return true
		}
	}
	return false
}

var nameSyntax = regexp.MustCompile(`^[a-z][a-z0-9]*(-[a-z0-9]+)+$`)

// Validate checks what a host relies on: the name, the kind, and that the name
// begins with the kind.
func (d Description) Validate() error {
	switch {
	case d.Kind != KindDiscovery && d.Kind != KindPlacement && d.Kind != KindSandbox:
		return fmt.Errorf("check description: unknown kind %q", d.Kind)
	case len(d.Name) > 64 || !nameSyntax.MatchString(d.Name):
		return fmt.Errorf("check description: name %q is not lower case words joined by dashes, 64 bytes at most", d.Name)
	case len(d.Name) <= len(d.Kind) || d.Name[:len(d.Kind)+1] != string(d.Kind)+"-":
		return fmt.Errorf("check description: name %q does not begin with its kind, %q", d.Name, d.Kind+"-")
	case d.Version == "":
		return fmt.Errorf("check description: %s has no version", d.Name)
	}
	return nil
}

// describe is the description of a strategy. It fails on what its author must
// mend.
func describe(s Strategy, info Info) (Description, error) {
	d := Description{Name: info.Name, Version: info.Version, ConfigSchema: info.Schema}
	kinds := 0
	if _, ok := s.(Discovery); ok {
		d.Kind, kinds = KindDiscovery, kinds+1
	}
	if _, ok := s.(Placement); ok {
		d.Kind, kinds = KindPlacement, kinds+1
	}
	if sandbox, ok := s.(Sandbox); ok {
		d.Kind, kinds = KindSandbox, kinds+1
		if _, ok := sandbox.(Snapshotter); ok {
			d.Capabilities = append(d.Capabilities, CapabilitySnapshot)
		}
		if _, ok := sandbox.(Reloader); ok {
			d.Capabilities = append(d.Capabilities, CapabilityReload)
		}
		if _, ok := sandbox.(Operator); ok {
			d.Capabilities = append(d.Capabilities, CapabilityOperate)
		}
	}
	if kinds != 1 {
		return Description{}, fmt.Errorf("describe %T: it implements %d of Discovery, Placement and Sandbox, want exactly one", s, kinds)
	}
	if d.Version == "" {
		d.Version = buildVersion()
	}
	if d.ConfigSchema == nil {
		var err error
		if d.ConfigSchema, err = ConfigSchema(info.Config); err != nil {
			return Description{}, fmt.Errorf("describe %s: %w", info.Name, err)
		}
	}
	return d, d.Validate()
}

func buildVersion() string {
	if b, ok := debug.ReadBuildInfo(); ok && b.Main.Version != "" && b.Main.Version != "(devel)" {
		return b.Main.Version
	}
	return "devel"
}
