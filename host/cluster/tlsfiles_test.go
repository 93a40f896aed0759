package cluster

import (
	"crypto/x509"
	"encoding/pem"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/sirupsen/logrus/hooks/test"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// writeFiles writes TLS files that a cluster key could have made.
func writeFiles(t *testing.T, dir, member string) TLSFiles {
	m, err := deriveMaterial([]Key{NewKey()}, member, "x")
	require.NoError(t, err)
	ca, _, err := authority(NewKey(), "x")
	require.NoError(t, err)
	key, err := x509.MarshalPKCS8PrivateKey(m.cert.PrivateKey)
	require.NoError(t, err)
	f := TLSFiles{Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem"), CA: filepath.Join(dir, "ca.pem")}
	for path, b := range map[string]*pem.Block{
		f.Cert: {Type: "CERTIFICATE", Bytes: m.cert.Certificate[0]},
		f.Key:  {Type: "PRIVATE KEY", Bytes: key},
		f.CA:   {Type: "CERTIFICATE", Bytes: ca.Raw},
	} {
		require.NoError(t, os.WriteFile(path, pem.EncodeToMemory(b), 0o600))
	}
	return f
}

func TestTLSFilesAreReadAgain(t *testing.T) {
	dir := t.TempDir()
	log, hook := test.NewNullLogger()
	log.SetOutput(io.Discard)
	now := time.Now()
	f := &fileMaterials{files: writeFiles(t, dir, "a"), log: logrus.NewEntry(log), now: func() time.Time { return now }}
	step := func() *material {
		now = now.Add(2 * lookEvery)
		m, err := f.current()
		require.NoError(t, err)
		return m
	}
	first := step()
	assert.Same(t, first, step())

	writeFiles(t, dir, "longer-name") // another size, whatever the clock's resolution
	second := step()
	assert.NotSame(t, first, second)

	require.NoError(t, os.WriteFile(f.files.Cert, []byte("half a fi"), 0o600))
	assert.Same(t, second, step(), "the old ones stay")
	assert.Same(t, second, step())
	require.Len(t, hook.AllEntries(), 1, "told once")
	require.NoError(t, os.Remove(f.files.CA))
	assert.Same(t, second, step())
	writeFiles(t, dir, "b")
	assert.NotSame(t, second, step())
}

// The authority of a key is the same everywhere.
func TestAuthorityIsDeterministic(t *testing.T) {
	k := NewKey()
	a, _, err := authority(k, "x")
	require.NoError(t, err)
	b, _, err := authority(k, "x")
	require.NoError(t, err)
	assert.Equal(t, a.Raw, b.Raw)
	c, _, err := authority(k, "y")
	require.NoError(t, err)
	assert.NotEqual(t, a.PublicKey, c.PublicKey)
}
