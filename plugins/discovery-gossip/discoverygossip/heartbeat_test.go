package discoverygossip

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"github.com/debughost/debughost/erl/etf"
	"github.com/debughost/debughost/sdk"
	"github.com/stretchr/testify/require"
)

func sample() heartbeat {
	return heartbeat{cluster: clusterOf("prod"), incarnation: 1 << 63, time: -2, hello: true, member: "größe", addr: "10.0.0.1:7946"}
}

func TestHeartbeatRoundTrip(t *testing.T) {
	for _, h := range []heartbeat{
		sample(),
		{cluster: clusterOf(""), incarnation: 1, time: 1 << 62, answer: true, member: strings.Repeat("x", 255), addr: strings.Repeat("y", 249) + ":65535"},
	} {
		b := h.append([]byte("before"), secrets("new")[0])[len("before"):]
		require.Less(t, len(b), maxPacket)
		got, err := parseHeartbeat(b)
		require.NoError(t, err)
		require.True(t, got.provenBy(secrets("new", "old")))
		require.True(t, got.provenBy(secrets("old", "new")))
		require.False(t, got.provenBy(secrets("old")))
		require.False(t, got.provenBy(nil))
		got.signed, got.proof = nil, nil
		require.Equal(t, h, got)
	}
}

// The packet is between versions of debughost.
func TestHeartbeatGolden(t *testing.T) {
	b := sample().append(nil, secrets("secret")[0])
	require.Equal(t, "64686701"+"c0d30206544edb67"+"8000000000000000"+"fffffffffffffffe"+"01"+
		"07"+"6772c3b6c39f65"+"0d"+"31302e302e302e313a37393436"+
		"87a2cab7876f9ac327726d2c08052700f7cac872d33b618b9f725a819d6145f8", hex.EncodeToString(b))
}

func TestWhatIsNoHeartbeat(t *testing.T) {
	good := sample().append(nil, secrets("s")[0])
	_, err := parseHeartbeat(good)
	require.NoError(t, err)
	for n := range good { // cut anywhere
		_, err := parseHeartbeat(good[:n])
		require.Error(t, err)
	}
	_, err = parseHeartbeat(append(bytes.Clone(good), 0))
	require.Error(t, err)
	change := func(at int, to byte) []byte {
		b := bytes.Clone(good)
		b[at] = to
		return b
	}
	name := headSize
	for what, b := range map[string][]byte{
		"another version": change(3, 2),
		"unknown flag":    change(headSize-1, 4),
		"long name":       change(name, 255),
		"no name":         change(name, 0),
		"space in name":   change(name+1, ' '),
	} {
		_, err := parseHeartbeat(b)
		require.Error(t, err, what)
	}
	// Whatever bit is another, the proof does not fit.
	for i := range good {
		if h, err := parseHeartbeat(change(i, good[i]^1)); err == nil {
			require.False(t, h.provenBy(secrets("s")), i)
		}
	}
}

func TestReplays(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	var r replays
	packet := func(incarnation uint64, at time.Duration) heartbeat {
		return heartbeat{member: "a", addr: "h:1", incarnation: incarnation, time: now.Add(at).UnixNano()}
	}
	require.NoError(t, r.admit(packet(1, 0), now))
	require.ErrorIs(t, r.admit(packet(1, 0), now), errNothing)
	require.ErrorIs(t, r.admit(packet(1, -1), now), errRepeated)
	require.NoError(t, r.admit(packet(1, 1), now))
	require.ErrorIs(t, r.admit(packet(0, 2), now), errRepeated, "of an earlier life")
	require.NoError(t, r.admit(packet(2, -time.Second), now), "another life, whose clock was set back")
	require.ErrorIs(t, r.admit(packet(2, maxSkew+1), now), errClock)
	require.ErrorIs(t, r.admit(packet(2, -maxSkew-1), now), errClock)
	other := packet(1, 0)
	other.addr = "h:2"
	require.NoError(t, r.admit(other, now), "another one of that name")

	// What is forgotten is too old to be taken again.
	later := now.Add(2*maxSkew + 1)
	require.ErrorIs(t, r.admit(packet(2, 0), later), errClock)
	fresh := other
	fresh.time = later.UnixNano()
	require.NoError(t, r.admit(fresh, later))
	require.Len(t, r.last, 1)
	for i := range maxSenders {
		h := fresh
		h.member = strings.Repeat("x", i%50) + string(rune('a'+i%26)) + hex.EncodeToString([]byte{byte(i), byte(i >> 8)})
		_ = r.admit(h, later)
	}
	fresh.member = "one more"
	require.ErrorIs(t, r.admit(fresh, later), errTooMany)
}

// term is what libcluster sends, with the atoms' tag of any release.
func term(tag byte, name string) []byte {
	atom := func(s string) []byte {
		if tag == tagSmallAtomUTF8 {
			return append([]byte{tag, byte(len(s))}, s...)
		}
		return append([]byte{tag, byte(len(s) >> 8), byte(len(s))}, s...)
	}
	b := append([]byte(libclusterTag), 131, 116, 0, 0, 0, 1)
	return append(append(b, atom("node")...), atom(name)...)
}

// encrypt does what libcluster does.
func encrypt(t testing.TB, plain []byte, secret string) []byte {
	key, err := libclusterKey([]byte(secret))
	require.NoError(t, err)
	padding := aes.BlockSize - len(plain)%aes.BlockSize
	b := append(bytes.Repeat([]byte{7}, aes.BlockSize), plain...)
	b = append(b, bytes.Repeat([]byte{byte(padding)}, padding)...)
	cipher.NewCBCEncrypter(key, b[:aes.BlockSize]).CryptBlocks(b[aes.BlockSize:], b[aes.BlockSize:])
	return b
}

func TestLibclusterPacket(t *testing.T) {
	for _, tag := range []byte{100, 118, 119} {
		name, err := hearLibcluster(term(tag, "shop@db1"), nil)
		require.NoError(t, err)
		require.Equal(t, "shop@db1", name)
	}
	name, err := parseLibcluster(term(100, "sh\xf6p@db1")) // Latin-1
	require.NoError(t, err)
	require.Equal(t, "shöp@db1", name)
	name, err = parseLibcluster(term(118, strings.Repeat("ö", 250)+"@db1"))
	require.NoError(t, err)
	require.Len(t, []rune(name), 254)
	for _, own := range []string{"nonode@nohost", "debughost-12345678@db1"} {
		name, err = hearLibcluster(term(119, own), nil)
		require.NoError(t, err)
		require.Empty(t, name)
	}
	// Our own encoder agrees.
	b, err := etf.Encode(etf.Map{{Key: etf.Atom("node"), Value: etf.Atom("shop@db1")}})
	require.NoError(t, err)
	name, err = parseLibcluster(append([]byte(libclusterTag), b...))
	require.NoError(t, err)
	require.Equal(t, "shop@db1", name)
}

func TestWhatLibclusterDoesNotSend(t *testing.T) {
	good := term(119, "shop@db1")
	for n := range good {
		_, err := parseLibcluster(good[:n])
		require.Error(t, err)
	}
	for what, b := range map[string][]byte{
		"something behind":  append(bytes.Clone(good), 0),
		"another key":       bytes.Replace(good, []byte("node"), []byte("mode"), 1),
		"two pairs":         bytes.Replace(good, []byte{0, 0, 0, 1}, []byte{0, 0, 0, 2}, 1),
		"many pairs":        bytes.Replace(good, []byte{0, 0, 0, 1}, []byte{255, 255, 255, 255}, 1),
		"no map":            bytes.Replace(good, []byte{131, 116}, []byte{131, 104}, 1),
		"compressed":        bytes.Replace(good, []byte{131, 116}, []byte{131, 80}, 1),
		"another tag":       term(115, "shop@db1"),
		"no host":           term(119, "shop"),
		"a space":           term(119, "sh op@db1"),
		"no UTF-8":          term(119, "sh\xf6p@db1"),
		"long Latin-1":      term(100, strings.Repeat("x", 252)+"@db1"),
		"long UTF-8":        term(118, strings.Repeat("x", 252)+"@db1"),
		"length of a story": append(bytes.Clone(good[:len(libclusterTag)+6]), 118, 0xff, 0xff, 'n'),
		"nothing":           {},
	} {
		_, err := parseLibcluster(b)
		require.Error(t, err, what)
	}
}

func TestLibclusterSecret(t *testing.T) {
	key, err := libclusterKey([]byte("secret"))
	require.NoError(t, err)
	other, err := libclusterKey([]byte("another"))
	require.NoError(t, err)
	for _, node := range []string{"shop@db1", "shop@db12345", "s@d"} { // all paddings
		for i := range 16 {
			name := strings.Repeat("x", i) + node
			sent := encrypt(t, term(100, name), "secret")
			got, err := hearLibcluster(bytes.Clone(sent), key)
			require.NoError(t, err)
			require.Equal(t, name, got)
			_, err = hearLibcluster(bytes.Clone(sent), other)
			require.ErrorIs(t, err, errUndecryptable)
			_, err = hearLibcluster(bytes.Clone(sent), nil)
			require.ErrorIs(t, err, errEncrypted)
			_, err = hearLibcluster(bytes.Clone(sent[:len(sent)-1]), key)
			require.ErrorIs(t, err, errMalformed)
		}
	}
	_, err = hearLibcluster(term(100, "shop@db1"), key)
	require.ErrorIs(t, err, errPlain)
	_, err = hearLibcluster(encrypt(t, []byte("hello"), "secret"), key)
	require.ErrorIs(t, err, errUndecryptable)
	_, err = hearLibcluster(nil, key)
	require.ErrorIs(t, err, errMalformed)
}

func FuzzHeartbeat(f *testing.F) {
	secret := secrets("s")
	f.Add(sample().append(nil, secret[0]))
	f.Add(heartbeat{member: "a", addr: "[::1]:1"}.append(nil, secret[0]))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := parseHeartbeat(b)
		if err != nil {
			return
		}
		require.NoError(t, sdk.Node{Name: h.member, Addr: h.addr, Role: sdk.RoleMember}.Validate())
		again := h.append(nil, secret[0])
		require.Equal(t, b[:len(b)-proofSize], again[:len(again)-proofSize])
		require.Equal(t, bytes.Equal(b, again), h.provenBy(secret))
	})
}

func FuzzLibcluster(f *testing.F) {
	key, err := libclusterKey([]byte("s"))
	require.NoError(f, err)
	for _, tag := range []byte{100, 118, 119} {
		f.Add(term(tag, "shop@db1"))
		f.Add(encrypt(f, term(tag, "shop@db1"), "s"))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, k := range []cipher.Block{nil, key} {
			name, err := hearLibcluster(bytes.Clone(b), k)
			if err == nil && name != "" {
				require.NoError(t, sdk.Node{Name: name}.Validate())
			}
		}
		// What anybody may encrypt is read as strictly as what is plain.
		name, err := hearLibcluster(encrypt(t, b, "s"), key)
		plain, plainErr := hearLibcluster(bytes.Clone(b), nil)
		require.Equal(t, plainErr == nil, err == nil)
		require.Equal(t, plain, name)
	})
}
