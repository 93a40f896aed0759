package registry

import "fmt"

// ByPid is the owner that a BEAM process is. The creation is that of the node's
// incarnation that the pid belongs to.
func ByPid(node, pid string, creation uint32) Owner {
	return Owner{Kind: OwnerPid, Node: node, Pid: pid, Creation: creation}
}

// ByChild is the owner that a child of the supervisor is.
func ByChild(id string) Owner { return Owner{Kind: OwnerChild, Child: id} }

// ByMember is the owner that a member is, for as long as this life of it lasts.
func ByMember(name string) Owner { return Owner{Kind: OwnerMember, Member: name} }

// ByLease is the owner that a client's lease is.
func ByLease(id string) Owner { return Owner{Kind: OwnerLease, Lease: id} }

// String is for people: "process <0.123.0> of shop@db1".
func (o Owner) String() string {
	switch o.Kind {
	case OwnerPid:
		return fmt.Sprintf("process %s of %s", o.Pid, o.Node)
	case OwnerChild:
		return "child " + o.Child
	case OwnerMember:
		return "member " + o.Member
	case OwnerLease:
		return "lease " + o.Lease
	}
	return "nobody"
}
