package discoverygossip

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"errors"
	"unicode/utf8"

	"github.com/debughost/debughost/plugins/internal/listing"
	"github.com/debughost/debughost/sdk"
)

// What libcluster's strategy Gossip sends (version 3.5.0):
//
//	"heartbeat::" term_to_binary(#{node => Name})
//
// where the term is 131, 116 (a map), 1:32, the atom node and the atom Name.
// With a secret it sends iv:128 and the same in AES-256-CBC, with the SHA-256
// of the secret as key and with PKCS #7 padding. Nothing proves who sent it.
const libclusterTag = "heartbeat::"

// Tags of atoms in the external term format.
const (
	tagAtomLatin1    = 100 // n:16 Latin-1, up to OTP 25
	tagAtomUTF8      = 118 // n:16 UTF-8
	tagSmallAtomUTF8 = 119 // n:8 UTF-8
)

var (
	errPlain     = errors.New("not encrypted")
	errEncrypted = errors.New("encrypted, or not a heartbeat")
)

// parseLibcluster reads the name of the node that sent a heartbeat.
func parseLibcluster(b []byte) (string, error) {
	rest, ok := bytes.CutPrefix(b, []byte(libclusterTag))
	if !ok {
		return "", errMalformed
	}
	rest, ok = bytes.CutPrefix(rest, []byte{131, 116, 0, 0, 0, 1})
	if !ok {
		return "", errMalformed
	}
	key, rest, err := parseAtom(rest)
	if err != nil || key != "node" {
		return "", errMalformed
	}
	name, rest, err := parseAtom(rest)
	if err != nil || len(rest) > 0 {
		return "", errMalformed
	}
	if (sdk.Node{Name: name}).Validate() != nil {
		return "", errMalformed
	}
	return name, nil
}

// parseAtom reads an atom of at most 255 characters and returns what is behind.
func parseAtom(b []byte) (atom string, rest []byte, err error) {
	if len(b) < 3 {
		return "", nil, errMalformed
	}
	tag, n := b[0], int(b[1])
	if tag == tagSmallAtomUTF8 {
		b = b[2:]
	} else {
		n, b = n<<8|int(b[2]), b[3:]
	}
	if n > len(b) {
		return "", nil, errMalformed
	}
	text, rest := b[:n], b[n:]
	switch tag {
	case tagAtomLatin1:
		if n > 255 {
			return "", nil, errMalformed
		}
		runes := make([]rune, n)
		for i, c := range text {
			runes[i] = rune(c)
		}
		return string(runes), rest, nil
	case tagAtomUTF8, tagSmallAtomUTF8:
		if !utf8.Valid(text) || utf8.RuneCount(text) > 255 {
			return "", nil, errMalformed
		}
		return string(text), rest, nil
	}
	return "", nil, errMalformed
}

// libclusterKey is the key that libcluster makes of a secret.
func libclusterKey(secret []byte) (cipher.Block, error) {
	key := sha256.Sum256(secret)
	return aes.NewCipher(key[:])
}

// openLibcluster decrypts a heartbeat, or returns it when there is no key. b is
// overwritten.
func openLibcluster(b []byte, key cipher.Block) ([]byte, error) {
	plain := bytes.HasPrefix(b, []byte(libclusterTag))
	switch {
	case key == nil && plain:
		return b, nil
	case key == nil && len(b)%aes.BlockSize == 0 && len(b) >= 3*aes.BlockSize:
		return nil, errEncrypted
	case key != nil && plain:
		return nil, errPlain
	case len(b)%aes.BlockSize != 0 || len(b) < 2*aes.BlockSize || key == nil:
		return nil, errMalformed
	}
	text := b[aes.BlockSize:]
	cipher.NewCBCDecrypter(key, b[:aes.BlockSize]).CryptBlocks(text, text)
	padding := int(text[len(text)-1])
	if padding < 1 || padding > aes.BlockSize {
		return nil, errUndecryptable
	}
	for _, c := range text[len(text)-padding:] {
		if int(c) != padding {
			return nil, errUndecryptable
		}
	}
	if text = text[:len(text)-padding]; !bytes.HasPrefix(text, []byte(libclusterTag)) {
		return nil, errUndecryptable
	}
	return text, nil
}

var errUndecryptable = errors.New("cannot be decrypted with this secret")

// hearLibcluster is the node that a packet is a heartbeat of. The name is empty
// for nodes that are none: those that are not distributed, and debughost's own.
func hearLibcluster(b []byte, key cipher.Block) (name string, err error) {
	if b, err = openLibcluster(b, key); err != nil {
		return "", err
	}
	if name, err = parseLibcluster(b); err != nil {
		return "", err
	}
	if name == "nonode@nohost" || listing.Own(name) {
		return "", nil
	}
	return name, nil
}
