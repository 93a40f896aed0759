package cluster

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestKeyIsNeverPrinted(t *testing.T) {
	k := NewKey()
	type holder struct{ k Key }
	out, err := json.Marshal(map[string]any{"k": k})
	require.NoError(t, err)
	all := string(out) + k.String() + k.GoString() +
		fmt.Sprintf("%v %+v %#v %s %q %x %d %v %#v %+v %v", k, k, k, k, k, k, k, holder{k}, holder{k}, &holder{k}, []Key{k})
	assert.NotContains(t, all, k.Reveal())
	assert.NotContains(t, all, fmt.Sprintf("%x", k.secret[:4]))
	assert.NotContains(t, all, strings.Trim(fmt.Sprint(k.secret[:3]), "[]"))
	assert.Contains(t, fmt.Sprint(k), "[cluster key]")
}

func TestKeys(t *testing.T) {
	k := NewKey()
	same, err := ParseKey(k.Reveal() + "\n")
	require.NoError(t, err)
	assert.True(t, k.Equal(same))
	assert.Equal(t, k.ID(), same.ID())
	assert.Len(t, k.ID(), 8)
	assert.False(t, k.Equal(NewKey()))
	assert.False(t, k.Equal(Key{}))
	assert.True(t, Key{}.Equal(Key{}))
	assert.Empty(t, Key{}.Reveal())
	assert.NotEqual(t, k.derive("a"), k.derive("b"))
	for _, bad := range []string{"", "x", k.Reveal()[1:], k.Reveal() + "A"} {
		_, err := ParseKey(bad)
		assert.Error(t, err)
	}
}

func TestParseKeys(t *testing.T) {
	a, b := NewKey(), NewKey()
	keys, err := ParseKeys([]byte("# mine\n\n" + a.Reveal() + "\r\n  " + b.Reveal()))
	require.NoError(t, err)
	require.Len(t, keys, 2)
	assert.True(t, keys[0].Equal(a))
	again, err := ParseKeys(FormatKeys(keys))
	require.NoError(t, err)
	assert.True(t, again[1].Equal(b))

	many := &bytes.Buffer{}
	for range MaxKeys + 1 {
		fmt.Fprintln(many, NewKey().Reveal())
	}
	for in, want := range map[string]string{
		"":                             "no key in it",
		"# x":                          "no key in it",
		a.Reveal() + "\nxy":            "line 2: want 32 bytes in base64",
		a.Reveal() + "\n" + a.Reveal(): "line 2: key " + a.ID() + " is there twice",
		many.String():                  "more than 16 keys",
	} {
		_, err := ParseKeys([]byte(in))
		require.ErrorContains(t, err, want)
		assert.NotContains(t, err.Error(), a.Reveal())
	}
}

func FuzzKeyFile(f *testing.F) {
	f.Add(FormatKeys([]Key{NewKey()}))
	f.Add([]byte("AAAA"))
	f.Fuzz(func(t *testing.T, b []byte) {
		keys, err := ParseKeys(b)
		if err != nil {
			return
		}
		again, err := ParseKeys(FormatKeys(keys))
		require.NoError(t, err)
		require.Equal(t, len(keys), len(again))
	})
}

func TestKeyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cluster.key")
	k, err := CreateKeyFile(path)
	require.NoError(t, err)
	_, err = CreateKeyFile(path)
	assert.ErrorContains(t, err, "exists already")
	_, err = CreateKeyFile(filepath.Join(path, "x"))
	assert.Error(t, err)

	r, err := OpenRing(path)
	require.NoError(t, err)
	assert.Equal(t, []KeyInfo{{k.ID(), true}}, r.List())

	link := filepath.Join(filepath.Dir(path), "link")
	require.NoError(t, os.Symlink(path, link))
	r, err = OpenRing(link)
	require.NoError(t, err)
	fresh := NewKey()
	require.NoError(t, r.Add(fresh))
	require.NoError(t, r.Use(fresh.ID()))
	info, err := os.Lstat(link)
	require.NoError(t, err)
	assert.NotZero(t, info.Mode()&os.ModeSymlink, "the link stays one")
	r, err = OpenRing(path)
	require.NoError(t, err)
	assert.Equal(t, []KeyInfo{{fresh.ID(), true}, {k.ID(), false}}, r.List())

	require.NoError(t, os.Chmod(path, 0o640))
	_, err = OpenRing(path)
	assert.ErrorContains(t, err, "mode 0640, and it must be accessible by its owner only")
	_, err = OpenRing(filepath.Dir(path))
	assert.ErrorContains(t, err, "not a regular file")
	_, err = OpenRing(path + "x")
	assert.ErrorIs(t, err, os.ErrNotExist)
	require.NoError(t, os.WriteFile(path+"big", make([]byte, maxKeyFile+1), 0o600))
	_, err = OpenRing(path + "big")
	assert.ErrorContains(t, err, "longer than")
}

// The change is in force, and the operator hears what to do.
func TestKeyFileThatCannotBeWritten(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "gone")
	require.NoError(t, os.Mkdir(dir, 0o700))
	path := filepath.Join(dir, "cluster.key")
	_, err := CreateKeyFile(path)
	require.NoError(t, err)
	r, err := OpenRing(path)
	require.NoError(t, err)
	require.NoError(t, os.RemoveAll(dir))
	fresh := NewKey()
	err = r.Add(fresh)
	var file *KeyFileError
	require.ErrorAs(t, err, &file)
	assert.ErrorContains(t, err, "write the file by hand")
	assert.ErrorIs(t, err, os.ErrNotExist)
	assert.Len(t, r.List(), 2)
}

func TestRing(t *testing.T) {
	a, b, c := NewKey(), NewKey(), NewKey()
	r, err := NewRing(a, b)
	require.NoError(t, err)
	var said []string
	r.watch(func(what, id string) { said = append(said, what+" "+id) })
	require.NoError(t, r.Add(b), "it is there already")
	require.NoError(t, r.Add(c))
	require.NoError(t, r.Use(a.ID()))
	require.NoError(t, r.Use(b.ID()))
	assert.ErrorContains(t, r.Use("12345678"), "does not have it")
	assert.ErrorContains(t, r.Remove("12345678"), "does not have it")
	assert.ErrorContains(t, r.Remove(b.ID()), "it is the one in use")
	require.NoError(t, r.Remove(a.ID()))
	assert.Error(t, r.Add(Key{}))
	assert.Equal(t, []string{"added " + c.ID(), "used " + b.ID(), "removed " + a.ID()}, said)
	assert.Equal(t, []KeyInfo{{b.ID(), true}, {c.ID(), false}}, r.List())
	assert.True(t, r.Primary().Equal(b))

	// memberlist's ring is the same.
	want := [][]byte{b.derive("gossip"), c.derive("gossip")}
	assert.Equal(t, want, r.gossip.GetKeys())

	secrets := r.Secret("discovery-gossip")
	require.Len(t, secrets, 2)
	assert.NotEqual(t, secrets[0], r.Secret("other")[0])
	other, err := NewRing(c, b)
	require.NoError(t, err)
	assert.Equal(t, secrets[0], other.Secret("discovery-gossip")[1])

	_, err = NewRing()
	assert.Error(t, err)
	for i := len(r.List()); i < MaxKeys; i++ {
		require.NoError(t, r.Add(NewKey()))
	}
	assert.ErrorContains(t, r.Add(NewKey()), "there are 16 already")
}

// A key that is removed from the middle leaves the keys that packets are being
// decrypted with alone.
func TestRingRemovalKeepsSlicesInUse(t *testing.T) {
	var keys []Key
	for range 5 {
		keys = append(keys, NewKey())
	}
	r, err := NewRing(keys...)
	require.NoError(t, err)
	var before [][][]byte
	for _, k := range keys[1:4] {
		before = append(before, r.gossip.GetKeys())
		require.NoError(t, r.Remove(k.ID()))
	}
	assert.Len(t, before[0], 5)
	for i, k := range keys {
		assert.Equal(t, k.derive("gossip"), before[0][i])
	}
	assert.Equal(t, [][]byte{keys[0].derive("gossip"), keys[4].derive("gossip")}, r.gossip.GetKeys())
}
