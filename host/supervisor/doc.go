// Package supervisor keeps children running: whatever a sandbox strategy can
// run, each on one member of the cluster, started again when it crashes and
// elsewhere when its member is lost.
//
// It does not run children itself (sandbox plugins do), it does not choose
// members (placement plugins do), and it has no API.
//
// # What the members know
//
// Every member has a book: a record of each child (record.go), on its disk. A
// record has three parts, each with versions of its own that have a total order:
// what operators want, which member has the child, and how that came to its end.
// Members merge what they hear by taking the greater of each part. So it does not
// matter in which order they hear it, nor how often, and what was written on two
// sides of a partition is one book again when they see each other.
//
// A record is changed by the child's arbiter only: the first of the members in
// sight, by a hash of the child's id. Its part about the end is written by the
// member that has the child, and by nobody else. Two members that see different
// others may both be the arbiter for a while; the order of versions decides.
//
// Beside that, each member says facts about itself (fact): what of a child runs
// there, and which assignment it knew when it said so. Facts are not kept.
//
// # What follows
//
// A member runs what its book assigns to it and stops what it does not. It starts
// nothing while it does not know what those in sight know, nor while another
// member in sight says that it still runs the child, nor before all from whom it
// was taken have said that they do not, or are gone. So in a cluster whose
// members see each other no child runs twice; after a partition the older
// assignment stops when it hears of the newer.
//
// A planned move of a child with the handoff snapshot is the exception: the old run
// goes on until the new one, which is restored from a snapshot of it, has begun. So
// for a moment there are two, and what the old one does after the snapshot is lost.
// A move that fails ends in an assignment by which the old run goes on
// (core_handoff.go).
//
// A removed child is remembered as such for a week, so that a member that was
// away does not bring it back.
//
// The core that decides this is a pure state machine (core.go); its scenarios are
// texts in testdata/scenarios, and random_test.go runs it through random ones.
package supervisor
