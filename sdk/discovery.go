package sdk

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Discovery finds nodes. The strategy implements it in the plugin, and the
// host has it from package wire.
type Discovery interface {
	// Watch calls emit with an answer as soon as it has one, which for a
	// strategy that asks is at once, and with another whenever the answer
	// changes, until ctx ends. A strategy that has to listen for a while before
	// it can say that there is nobody waits for so long. SelfFrom(ctx) tells
	// what is to be found and for whom. A strategy may return nil early when its
	// last answer will never change: the host's stream stays open. Another
	// error ends the stream; the host then watches anew after a pause.
	//
	// emit is not safe for concurrent use. It blocks while the host is busy
	// and fails once ctx has ended.
	Watch(ctx context.Context, emit func(Answer) error) error
}

// Answer is what a strategy knows now: all nodes, not what changed.
//
// Err says that the lookup, or a part of it, failed. With Err and no Nodes the
// host keeps the last list; with Err and Nodes the list is in force, and Err
// says which part of it is old. No Nodes and no Err is the statement that
// there are none: the host drops all that it is not attached to, keeps the
// others for as long as their connections are up, and attaches to none of them
// again. Never say it after a failure.
type Answer struct {
	Nodes []Node
	Err   error
}

// Role is what debughost does with a node that was found.
type Role string

// The roles. The zero value of a Node's Role means RoleTarget.
const (
	RoleTarget Role = "target" // a BEAM node to attach to
	RoleMember Role = "member" // another debughost to form a cluster with
)

// Node is a BEAM node, or another debughost, that a strategy found.
type Node struct {
	// Name is the full name, shop@db1. For RoleMember it is the member's name.
	Name string
	// Addr is the host:port to dial. When it is empty the host asks the EPMD
	// of the name's host part. RoleMember needs it.
	Addr string
	Role Role
	// Metadata is for people and for the host; see the Metadata constants. At
	// most 64 entries.
	Metadata map[string]string
}

// Keys of Node.Metadata that debughost knows.
const (
	// MetadataAlive is the part of the name before the @, as EPMD knows it.
	MetadataAlive = "alive"
	// MetadataHostUnknown is "true" when the part after the @ is a guess: EPMD
	// does not tell whether a node is shop@web1, shop@web1.example.org or
	// shop@127.0.0.1. A host dials Addr and takes the name that the node gives
	// itself in the handshake, if the part before the @ is the same.
	MetadataHostUnknown = "host_unknown"
	// MetadataEPMD is the host:port of the EPMD that named the node.
	MetadataEPMD = "epmd"
	// MetadataRegistered is "false" when the EPMD of a node that was asked for
	// by name does not know it: it is most likely not running.
	MetadataRegistered = "registered"
)

// Validate checks a node against the contract.
func (n Node) Validate() error {
	if err := validName(n.Name); err != nil {
		return fmt.Errorf("check node %.64q: %w", n.Name, err)
	}
	switch n.Role {
	case RoleTarget, "":
		alive, host, ok := strings.Cut(n.Name, "@")
		if !ok || alive == "" || host == "" || strings.Contains(host, "@") {
			return fmt.Errorf("check node %.64q: want name@host", n.Name)
		}
	case RoleMember:
		if n.Addr == "" {
			return fmt.Errorf("check node %.64q: a member needs an address", n.Name)
		}
	default:
		return fmt.Errorf("check node %.64q: unknown role %.32q", n.Name, n.Role)
	}
	if n.Addr != "" {
		if host, port, err := net.SplitHostPort(n.Addr); err != nil || host == "" || port == "" || len(n.Addr) > 512 {
			return fmt.Errorf("check node %.64q: address %.64q is not host:port", n.Name, n.Addr)
		}
	}
	if len(n.Metadata) > 64 {
		return fmt.Errorf("check node %.64q: %d metadata entries, at most 64 are allowed", n.Name, len(n.Metadata))
	}
	return nil
}

// validName bounds a name to what a node can be called: an atom has 255
// characters at most.
func validName(name string) error {
	switch {
	case name == "":
		return errors.New("the name is empty")
	case !utf8.ValidString(name):
		return errors.New("the name is not UTF-8")
	case utf8.RuneCountInString(name) > 255:
		return errors.New("the name is longer than 255 characters")
	case strings.ContainsFunc(name, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }):
		return errors.New("the name holds a space or a control character")
	}
	return nil
}

// ValidateNodes checks a full list: every node by itself, and that no name is
// there twice in one role.
func ValidateNodes(nodes []Node) error {
	type key struct {
		name   string
		member bool
	}
	seen := make(map[key]bool, len(nodes))
	for _, n := range nodes {
		if err := n.Validate(); err != nil {
			return err
		}
		k := key{n.Name, n.Role == RoleMember}
		if seen[k] {
			return fmt.Errorf("check nodes: %s is listed twice", n.Name)
		}
		seen[k] = true
	}
	return nil
}

// Poll is a Watch for strategies that have to ask again and again: it calls
// list at once and then every interval, and emits what it answers when that
// differs from the last time. list may answer with nodes and an error at once,
// as an Answer may. Its context ends after timeout, if that is positive.
func Poll(ctx context.Context, interval, timeout time.Duration, emit func(Answer) error, list func(context.Context) ([]Node, error)) error {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	var last Answer
	for first := true; ; first = false {
		next := ask(ctx, timeout, list)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if first || !next.equal(last) {
			if err := emit(next); err != nil {
				return err
			}
			last = next
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

func ask(ctx context.Context, timeout time.Duration, list func(context.Context) ([]Node, error)) Answer {
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	nodes, err := list(ctx)
	return Answer{nodes, err}
}

// equal compares what a host would see. The order of nodes does not count.
func (a Answer) equal(b Answer) bool {
	if (a.Err == nil) != (b.Err == nil) || a.Err != nil && (a.Err.Error() != b.Err.Error() || Hint(a.Err) != Hint(b.Err)) {
		return false
	}
	byName := func(x, y Node) int { return strings.Compare(x.Name, y.Name) }
	return slices.EqualFunc(slices.SortedFunc(slices.Values(a.Nodes), byName), slices.SortedFunc(slices.Values(b.Nodes), byName), func(x, y Node) bool {
		return x.Name == y.Name && x.Addr == y.Addr && x.Role == y.Role && maps.Equal(x.Metadata, y.Metadata)
	})
}
