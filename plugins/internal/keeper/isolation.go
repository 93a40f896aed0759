//go:build unix

package keeper

// Isolation is how a keeper's processes are shut in.
type Isolation string

// The kinds of isolation, the strongest first. A client tries them in this order
// and takes the first with which a keeper starts.
const (
	// PIDNamespace: the keeper is the init of a PID namespace. When it ends, the
	// kernel kills all in it; and from within nothing outside can be seen.
	PIDNamespace Isolation = "pid namespace"
	// UserNamespace is the same for an ordinary user, by way of a user namespace.
	UserNamespace Isolation = "pid and user namespace"
	// NoNamespace: the keeper's children are killed with it; what they forked is
	// killed by the next keeper.
	NoNamespace Isolation = "no namespace"
)

// isolation is what holds commands' processes together, in words.
func (s *server) isolation() string {
	how := string(s.options.Isolation) + ", " + s.groups.how()
	if s.note != "" {
		how += " (" + s.note + ")"
	}
	if s.untraced != nil {
		how += ", started by way of a launcher (tracing: " + s.untraced.Error() + ")"
	}
	return how
}
