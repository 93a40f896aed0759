package dist

import (
	"crypto/md5"
	"encoding/binary"
	"fmt"
)

// The messages of the handshake, each without its two bytes of length. All of
// them may have further bytes at the end, which later releases may give a
// meaning; they are ignored.

const (
	tagName      = 'N'
	tagOldName   = 'n' // version 5, up to OTP 24
	tagStatus    = 's'
	tagReply     = 'r'
	tagAck       = 'a'
	maxHandshake = 4096 // far more than any message that a node sends
)

// nameMsg is send_name, and with a challenge send_challenge.
type nameMsg struct {
	flags     Flags
	challenge uint32
	creation  uint32
	name      string
}

func appendName(dst []byte, m nameMsg) []byte {
	dst = append(dst, tagName)
	dst = binary.BigEndian.AppendUint64(dst, uint64(m.flags))
	dst = binary.BigEndian.AppendUint32(dst, m.creation)
	return appendNodeName(dst, m.name)
}

func appendChallenge(dst []byte, m nameMsg) []byte {
	dst = append(dst, tagName)
	dst = binary.BigEndian.AppendUint64(dst, uint64(m.flags))
	dst = binary.BigEndian.AppendUint32(dst, m.challenge)
	dst = binary.BigEndian.AppendUint32(dst, m.creation)
	return appendNodeName(dst, m.name)
}

func parseName(b []byte) (nameMsg, error) {
	if err := wantTag(b, tagName, 15); err != nil {
		return nameMsg{}, err
	}
	m := nameMsg{
		flags:    Flags(binary.BigEndian.Uint64(b[1:])),
		creation: binary.BigEndian.Uint32(b[9:]),
	}
	var err error
	m.name, err = parseNodeName(b[13:])
	return m, err
}

func parseChallenge(b []byte) (nameMsg, error) {
	if err := wantTag(b, tagName, 19); err != nil {
		return nameMsg{}, err
	}
	m := nameMsg{
		flags:     Flags(binary.BigEndian.Uint64(b[1:])),
		challenge: binary.BigEndian.Uint32(b[9:]),
		creation:  binary.BigEndian.Uint32(b[13:]),
	}
	var err error
	m.name, err = parseNodeName(b[17:])
	return m, err
}

// parseNodeName reads a name behind its two bytes of length.
func parseNodeName(b []byte) (string, error) {
	n := int(binary.BigEndian.Uint16(b))
	if n > len(b)-2 {
		return "", fmt.Errorf("%w: a name of %d bytes in %d", ErrProtocol, n, len(b)-2)
	}
	name := make([]rune, n)
	for i, c := range b[2 : 2+n] {
		name[i] = rune(c)
	}
	return string(name), nil
}

// appendNodeName writes a name as the emulator does: its characters as bytes, so
// in Latin-1. It takes none beyond (and no node of OTP has one in its name).
func appendNodeName(dst []byte, name string) []byte {
	at := len(dst)
	dst = append(dst, 0, 0)
	for _, r := range name {
		dst = append(dst, byte(min(r, 0xFF)))
	}
	binary.BigEndian.PutUint16(dst[at:], uint16(len(dst)-at-2))
	return dst
}

func appendStatus(dst []byte, s Status) []byte {
	return append(append(dst, tagStatus), s...)
}

func parseStatus(b []byte) (Status, error) {
	if err := wantTag(b, tagStatus, 1); err != nil {
		return "", err
	}
	return Status(b[1:]), nil
}

func appendReply(dst []byte, challenge uint32, digest [md5.Size]byte) []byte {
	dst = append(dst, tagReply)
	dst = binary.BigEndian.AppendUint32(dst, challenge)
	return append(dst, digest[:]...)
}

func parseReply(b []byte) (challenge uint32, digest []byte, err error) {
	if err := wantTag(b, tagReply, 5+md5.Size); err != nil {
		return 0, nil, err
	}
	return binary.BigEndian.Uint32(b[1:]), b[5 : 5+md5.Size], nil
}

func appendAck(dst []byte, digest [md5.Size]byte) []byte {
	return append(append(dst, tagAck), digest[:]...)
}

func parseAck(b []byte) (digest []byte, err error) {
	if err := wantTag(b, tagAck, 1+md5.Size); err != nil {
		return nil, err
	}
	return b[1 : 1+md5.Size], nil
}

// wantTag checks the first byte and the least length of a message.
func wantTag(b []byte, tag byte, least int) error {
	switch {
	case len(b) == 0:
		return fmt.Errorf("%w: empty handshake message", ErrProtocol)
	case b[0] == tagOldName && tag == tagName:
		return ErrTooOld
	case b[0] != tag:
		return fmt.Errorf("%w: handshake message %q where %q is due", ErrProtocol, b[0], tag)
	case len(b) < least:
		return fmt.Errorf("%w: handshake message %q of %d bytes", ErrProtocol, tag, len(b))
	}
	return nil
}
