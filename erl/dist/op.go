package dist

import "fmt"

// Op is the operation of a control message, its tuple's first element.
type Op uint8

// The operations, with OTP's names and tuples. A name that ends in TT carries
// a sequential trace token; "+ payload" means that a term follows.
const (
	OpLink                Op = 1  // {1, From, To}
	OpSend                Op = 2  // {2, '', To} + payload
	OpExit                Op = 3  // {3, From, To, Reason}
	OpUnlink              Op = 4  // {4, From, To}, obsolete
	OpRegSend             Op = 6  // {6, From, '', ToName} + payload
	OpGroupLeader         Op = 7  // {7, From, To}
	OpExit2               Op = 8  // {8, From, To, Reason}
	OpSendTT              Op = 12 // {12, '', To, Token} + payload
	OpExitTT              Op = 13 // {13, From, To, Token, Reason}
	OpRegSendTT           Op = 16 // {16, From, '', ToName, Token} + payload
	OpExit2TT             Op = 18 // {18, From, To, Token, Reason}
	OpMonitorP            Op = 19 // {19, From, To|ToName, Ref}
	OpDemonitorP          Op = 20 // {20, From, To|ToName, Ref}
	OpMonitorPExit        Op = 21 // {21, From|FromName, To, Ref, Reason}
	OpSendSender          Op = 22 // {22, From, To} + payload
	OpSendSenderTT        Op = 23 // {23, From, To, Token} + payload
	OpPayloadExit         Op = 24 // {24, From, To} + reason
	OpPayloadExitTT       Op = 25 // {25, From, To, Token} + reason
	OpPayloadExit2        Op = 26 // {26, From, To} + reason
	OpPayloadExit2TT      Op = 27 // {27, From, To, Token} + reason
	OpPayloadMonitorPExit Op = 28 // {28, From|FromName, To, Ref} + reason
	OpSpawnRequest        Op = 29 // {29, Ref, From, GroupLeader, {M,F,A}, Opts} + argument list
	OpSpawnRequestTT      Op = 30 // {30, Ref, From, GroupLeader, {M,F,A}, Opts, Token} + argument list
	OpSpawnReply          Op = 31 // {31, Ref, To, Flags, Result}
	OpSpawnReplyTT        Op = 32 // {32, Ref, To, Flags, Result, Token}
	OpAliasSend           Op = 33 // {33, From, Ref} + payload
	OpAliasSendTT         Op = 34 // {34, From, Ref, Token} + payload
	OpUnlinkID            Op = 35 // {35, ID, From, To}
	OpUnlinkIDAck         Op = 36 // {36, ID, From, To}
	OpAltactSig           Op = 37 // {37, Flags, From, To|ToName|Ref [, Token]} + payload
)

// Flags of OpSpawnReply.
const (
	SpawnedLink    = 1 // a link was set up between To and the new process
	SpawnedMonitor = 2 // a monitor was set up from To to the new process
)

// Flags of OpAltactSig (OTP 28 and later), which say what it is.
const (
	AltactPriority = 1  // a priority message
	AltactToken    = 2  // a trace token follows
	AltactAlias    = 4  // to an alias: Ref
	AltactName     = 8  // to a registered name: ToName
	AltactExit     = 16 // an exit signal; the payload is its reason
)

var opNames = [...]string{
	OpLink: "LINK", OpSend: "SEND", OpExit: "EXIT", OpUnlink: "UNLINK", OpRegSend: "REG_SEND",
	OpGroupLeader: "GROUP_LEADER", OpExit2: "EXIT2", OpSendTT: "SEND_TT", OpExitTT: "EXIT_TT",
	OpRegSendTT: "REG_SEND_TT", OpExit2TT: "EXIT2_TT", OpMonitorP: "MONITOR_P",
	OpDemonitorP: "DEMONITOR_P", OpMonitorPExit: "MONITOR_P_EXIT", OpSendSender: "SEND_SENDER",
	OpSendSenderTT: "SEND_SENDER_TT", OpPayloadExit: "PAYLOAD_EXIT", OpPayloadExitTT: "PAYLOAD_EXIT_TT",
	OpPayloadExit2: "PAYLOAD_EXIT2", OpPayloadExit2TT: "PAYLOAD_EXIT2_TT",
	OpPayloadMonitorPExit: "PAYLOAD_MONITOR_P_EXIT", OpSpawnRequest: "SPAWN_REQUEST",
	OpSpawnRequestTT: "SPAWN_REQUEST_TT", OpSpawnReply: "SPAWN_REPLY", OpSpawnReplyTT: "SPAWN_REPLY_TT",
	OpAliasSend: "ALIAS_SEND", OpAliasSendTT: "ALIAS_SEND_TT", OpUnlinkID: "UNLINK_ID",
	OpUnlinkIDAck: "UNLINK_ID_ACK", OpAltactSig: "ALTACT_SIG_SEND",
}

// String returns OTP's name of the operation.
func (op Op) String() string {
	if int(op) < len(opNames) && opNames[op] != "" {
		return opNames[op]
	}
	return fmt.Sprintf("OP_%d", uint8(op))
}

// known reports whether op has an entry in the table above.
func (op Op) known() bool { return int(op) < len(opNames) && opNames[op] != "" }

// hasPayload reports whether a term follows the control tuple.
func (op Op) hasPayload() bool {
	switch op {
	case OpSend, OpRegSend, OpSendTT, OpRegSendTT, OpSendSender, OpSendSenderTT,
		OpPayloadExit, OpPayloadExitTT, OpPayloadExit2, OpPayloadExit2TT, OpPayloadMonitorPExit,
		OpSpawnRequest, OpSpawnRequestTT, OpAliasSend, OpAliasSendTT, OpAltactSig:
		return true
	}
	return false
}

// arity is the size of the operation's tuple: the least that it needs, and the
// most that is understood.
func (op Op) arity() (least, most int) {
	const open = 255 // extended by later releases at its end
	switch op {
	case OpLink, OpSend, OpUnlink, OpGroupLeader, OpSendSender, OpPayloadExit, OpPayloadExit2, OpAliasSend:
		return 3, 3
	case OpExit, OpRegSend, OpExit2, OpSendTT, OpMonitorP, OpDemonitorP, OpSendSenderTT,
		OpPayloadExitTT, OpPayloadExit2TT, OpPayloadMonitorPExit, OpAliasSendTT, OpUnlinkID, OpUnlinkIDAck:
		return 4, 4
	case OpExitTT, OpRegSendTT, OpExit2TT, OpMonitorPExit, OpSpawnReply:
		return 5, 5
	case OpSpawnRequest, OpSpawnReplyTT:
		return 6, 6
	case OpSpawnRequestTT:
		return 7, 7
	case OpAltactSig:
		return 4, open
	}
	return 0, 0
}
