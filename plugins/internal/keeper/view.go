//go:build unix

package keeper

import (
	"fmt"
	"path/filepath"
	"strings"
	"sync"
)

// View is what a command gets to see in place of the whole system: the programs,
// libraries and certificates of the system, its own directory, and a /tmp, /proc and
// /dev of its own. What it sees of others it cannot write to. Others' processes and
// homes, the state directory and what is around that are not there. It has no
// capability, gets none, and can make no namespaces.
//
// It is made of Linux's namespaces, one of each kind for each command, with a process
// of this program as their init (launch/init_linux.go).
type View struct {
	// ReadOnly are absolute paths of directories and files that are there beside the
	// system's and those in PATH. Each has to exist, and may not have the state
	// directory in it.
	ReadOnly []string `json:"read_only,omitempty"`
	// NoNetwork leaves it a loopback interface of its own, and no other.
	NoNetwork bool `json:"no_network,omitempty"`
	// Required has Create fail where the system does not allow all of it. Else the
	// command runs with what is allowed; Status.Enforced["view"] says what that is.
	Required bool `json:"required,omitempty"`
}

// The values of a strategy's config key for it.
const (
	ViewAuto     = "auto"
	ViewOff      = "off"
	ViewRequired = "required"
)

// NewView is the view of a command by the config of its strategy: nil for ViewOff.
func NewView(config string, readOnly []string) *View {
	if config == ViewOff {
		return nil
	}
	return &View{ReadOnly: readOnly, Required: config == ViewRequired}
}

// viewKey is that of Status.Enforced.
const viewKey = "view"

const (
	viewOff  = "none: it is switched off"
	viewHeld = "user, pid, mount and ipc namespaces of its own"
)

func (v *View) check() error {
	if v == nil {
		return nil
	}
	for _, path := range v.ReadOnly {
		if !filepath.IsAbs(path) || strings.ContainsRune(path, 0) || filepath.Clean(path) == "/" {
			return fmt.Errorf("%w: %.140q is not to be shown: want an absolute path of less than all", ErrSpec, path)
		}
	}
	return nil
}

// views are the kinds of views that were tried here: nil is allowed.
type views struct {
	mu    sync.Mutex
	tried map[bool]error // by NoNetwork
}

// viewDir is where the root of a view is mounted, in the command's own namespaces.
const viewDir = "view"

// within reports whether a clean path is dir or below it.
func within(path, dir string) bool {
	return path == dir || dir == "/" || strings.HasPrefix(path, dir+"/")
}
