package dist

import (
	"fmt"
	"math/bits"
	"strings"
)

// Flags are the capabilities that a node announces in the handshake. What a
// connection uses is the intersection of both sides' flags.
type Flags uint64

// The flags of OTP 25 to 29, as in dist.hrl of its kernel application.
const (
	FlagPublished          Flags = 0x1 // never set: we are hidden
	FlagAtomCache          Flags = 0x2 // obsolete
	FlagExtendedReferences Flags = 0x4
	FlagDistMonitor        Flags = 0x8
	FlagFunTags            Flags = 0x10
	FlagDistMonitorName    Flags = 0x20
	FlagHiddenAtomCache    Flags = 0x40 // obsolete
	FlagNewFunTags         Flags = 0x80
	FlagExtendedPidsPorts  Flags = 0x100
	FlagExportPtrTag       Flags = 0x200
	FlagBitBinaries        Flags = 0x400
	FlagNewFloats          Flags = 0x800
	FlagUnicodeIO          Flags = 0x1000
	FlagDistHdrAtomCache   Flags = 0x2000
	FlagSmallAtomTags      Flags = 0x4000
	FlagUTF8Atoms          Flags = 0x10000
	FlagMapTag             Flags = 0x20000
	FlagBigCreation        Flags = 0x40000
	FlagSendSender         Flags = 0x80000
	FlagBigSeqtraceLabels  Flags = 0x100000
	FlagExitPayload        Flags = 0x400000
	FlagFragments          Flags = 0x800000
	FlagHandshake23        Flags = 0x1000000
	FlagUnlinkID           Flags = 0x2000000
	FlagMandatory25Digest  Flags = 0x4000000
	FlagSpawn              Flags = 1 << 32
	FlagNameMe             Flags = 1 << 33 // a request, not a capability
	FlagV4NC               Flags = 1 << 34
	FlagAlias              Flags = 1 << 35
	FlagAltactSig          Flags = 1 << 37
	FlagNativeRecords      Flags = 1 << 38
)

// mandatory25 is what FlagMandatory25Digest stands for: a peer that sets it may
// leave these out.
const mandatory25 = FlagExtendedReferences | FlagFunTags | FlagExtendedPidsPorts |
	FlagNewFunTags | FlagExportPtrTag | FlagBitBinaries | FlagNewFloats |
	FlagUTF8Atoms | FlagMapTag | FlagBigCreation | FlagHandshake23

// mandatory is what we require of a peer: what every node from OTP 25 on has.
const mandatory = mandatory25 | FlagV4NC | FlagUnlinkID

// DefaultFlags is what a Config with zero Flags offers.
//
// Fragments are among them, since they let the peer put small messages and
// ticks between the pieces of a large one. FlagDistHdrAtomCache is not, since a
// payload means nothing without its Atoms then; who can live with that gets
// tables of process information in 36 % of the bytes (OTP 27), and decodes
// them faster.
const DefaultFlags = mandatory | FlagMandatory25Digest |
	FlagDistMonitor | FlagDistMonitorName | FlagSendSender | FlagExitPayload |
	FlagUnicodeIO | FlagSmallAtomTags | FlagBigSeqtraceLabels |
	FlagSpawn | FlagAlias | FlagAltactSig | FlagNativeRecords | FlagFragments

// expand adds what FlagMandatory25Digest stands for.
func (f Flags) expand() Flags {
	if f&FlagMandatory25Digest != 0 {
		f |= mandatory25
	}
	return f
}

// has reports whether all of want are set.
func (f Flags) has(want Flags) bool { return f&want == want }

var flagNames = map[Flags]string{
	FlagPublished: "PUBLISHED", FlagAtomCache: "ATOM_CACHE",
	FlagExtendedReferences: "EXTENDED_REFERENCES", FlagDistMonitor: "DIST_MONITOR",
	FlagFunTags: "FUN_TAGS", FlagDistMonitorName: "DIST_MONITOR_NAME",
	FlagHiddenAtomCache: "HIDDEN_ATOM_CACHE", FlagNewFunTags: "NEW_FUN_TAGS",
	FlagExtendedPidsPorts: "EXTENDED_PIDS_PORTS", FlagExportPtrTag: "EXPORT_PTR_TAG",
	FlagBitBinaries: "BIT_BINARIES", FlagNewFloats: "NEW_FLOATS", FlagUnicodeIO: "UNICODE_IO",
	FlagDistHdrAtomCache: "DIST_HDR_ATOM_CACHE", FlagSmallAtomTags: "SMALL_ATOM_TAGS",
	FlagUTF8Atoms: "UTF8_ATOMS", FlagMapTag: "MAP_TAG", FlagBigCreation: "BIG_CREATION",
	FlagSendSender: "SEND_SENDER", FlagBigSeqtraceLabels: "BIG_SEQTRACE_LABELS",
	FlagExitPayload: "EXIT_PAYLOAD", FlagFragments: "FRAGMENTS", FlagHandshake23: "HANDSHAKE_23",
	FlagUnlinkID: "UNLINK_ID", FlagMandatory25Digest: "MANDATORY_25_DIGEST", FlagSpawn: "SPAWN",
	FlagNameMe: "NAME_ME", FlagV4NC: "V4_NC", FlagAlias: "ALIAS", FlagAltactSig: "ALTACT_SIG",
	FlagNativeRecords: "NATIVE_RECORDS",
}

// String lists the flags by OTP's names, lowest bit first, with "|" between.
func (f Flags) String() string {
	if f == 0 {
		return "0"
	}
	var names []string
	for f != 0 {
		bit := Flags(1) << bits.TrailingZeros64(uint64(f))
		f &^= bit
		name, ok := flagNames[bit]
		if !ok {
			name = fmt.Sprintf("%#x", uint64(bit))
		}
		names = append(names, name)
	}
	return strings.Join(names, "|")
}
