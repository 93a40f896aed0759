package events

import "time"

// Type names what happened. Clients match on it, so a name never changes its
// meaning.
type Type string

const (
	TargetFound    Type = "target_found"    // a strategy named a node
	TargetDropped  Type = "target_dropped"  // no strategy names it any more
	TargetAttached Type = "target_attached" // the connection is up
	TargetLost     Type = "target_lost"     // it was up and closed; Reason says why
	TargetFailed   Type = "target_failed"   // an attempt failed in a new way

	DiscoveryFailed    Type = "discovery_failed"    // a strategy answers with an error; its last answer stays
	DiscoveryRecovered Type = "discovery_recovered" // it answers again

	PluginStarted    Type = "plugin_started"
	PluginExited     Type = "plugin_exited"     // it ended without being asked; it is started again
	PluginFailed     Type = "plugin_failed"     // it is not started again by itself
	PluginRestarting Type = "plugin_restarting" // a new attempt is due
	PluginStopped    Type = "plugin_stopped"

	ConfigReloaded Type = "config_reloaded"
	ConfigRejected Type = "config_rejected" // the old one stays in force

	ProcessKilled Type = "process_killed" // an operator ended a process
	ProcessActed  Type = "process_acted"  // an operator did something else to one; Fields["act"] says what
	Evaluated     Type = "expression_evaluated"
	ShellOpened   Type = "shell_opened" // a remote shell began on a target
	ShellClosed   Type = "shell_closed" // Reason says how it ended

	TargetReleased Type = "target_released" // this member let go of it in peace
	TargetMoved    Type = "target_moved"    // another member attaches to it now

	MemberStarted  Type = "member_started"
	MemberStopping Type = "member_stopping"

	// The member that these tell about is Fields["member"].

	MemberJoined      Type = "member_joined"      // a new life of a member, first seen
	MemberSuspect     Type = "member_suspect"     // it missed a probe
	MemberUnreachable Type = "member_unreachable" // its connection broke and cannot be made again
	MemberDead        Type = "member_dead"        // the members agree that it does not answer
	MemberLeft        Type = "member_left"        // it said goodbye
	MemberForgotten   Type = "member_forgotten"   // an operator removed it from the list
	MemberRecovered   Type = "member_recovered"   // the same life of it answers again

	QuorumLost     Type = "quorum_lost"     // this member sees no majority any more
	QuorumRegained Type = "quorum_regained" // it sees one again
	QuorumForced   Type = "quorum_forced"   // an operator did without one what asks for it

	// The child that these tell about is Fields["child"]; Member is where it is.

	ChildPlaced     Type = "child_placed"       // a member has it from now on
	ChildNotMoved   Type = "child_not_moved"    // a planned move failed, and it goes on where it was
	ChildReloaded   Type = "child_reloaded"     // it runs another bundle
	ChildNotLoaded  Type = "child_not_reloaded" // that failed
	ChildStarted    Type = "child_started"      // it runs
	ChildTakenOver  Type = "child_taken_over"   // it ran on while its member was restarted
	ChildNotStarted Type = "child_not_started"  // an attempt failed
	ChildExited     Type = "child_exited"       // it ended by itself
	ChildStopped    Type = "child_stopped"      // by request
	ChildFailed     Type = "child_failed"       // it is not started again by itself

	NameConflict Type = "name_conflict" // two hold one name; the loser is told
	KeyRotated   Type = "key_rotated"   // the ring of cluster keys changed

	// EventsDropped tells a slow subscriber how many events it missed.
	EventsDropped Type = "events_dropped"
)

// Event is one thing that happened. Empty fields do not apply to its type.
type Event struct {
	Seq      uint64    // rises by one for each event of this member
	Time     time.Time // wall clock of the member
	Type     Type
	Member   string // the member that saw it
	Node     string // the target it concerns
	Plugin   string // the plugin's name
	Topology string
	Reason   string            // the cause, for a person
	Fields   map[string]string // further facts; keys in snake_case
}
