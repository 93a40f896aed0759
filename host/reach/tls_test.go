package reach

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/debughost/debughost/erl/erltest"
)

// serve accepts connections for as long as the test runs.
func serve(t *testing.T, handle func(net.Conn)) (addr string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			handle(c)
		}
	}()
	return l.Addr().String()
}

func TestTLSErrors(t *testing.T) {
	pki := erltest.NewPKI(t)
	cert, key := pki.Issue(t, "localhost", time.Now().Add(time.Hour))
	pair, err := tls.LoadX509KeyPair(cert, key)
	require.NoError(t, err)
	empty := filepath.Join(t.TempDir(), "empty.pem")
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	with := func(cfg *tls.Config) string {
		return serve(t, func(c net.Conn) {
			go func() {
				defer c.Close()
				_ = tls.Server(c, cfg).Handshake() // the client tells
			}()
		})
	}
	until, err := (&TLS{CAFile: pki.CAFile, CertFile: cert, KeyFile: key}).Check()
	require.NoError(t, err)
	assert.WithinDuration(t, time.Now().Add(time.Hour), until, time.Minute)
	until, err = (&TLS{CAFile: pki.CAFile}).Check()
	require.NoError(t, err)
	assert.Zero(t, until)
	_, err = (&TLS{CAFile: "/no/such"}).Check()
	require.Error(t, err)
	good := with(&tls.Config{Certificates: []tls.Certificate{pair}})
	oldCert, oldKey := pki.Issue(t, "localhost", time.Now().Add(-time.Hour))
	oldPair, err := tls.LoadX509KeyPair(oldCert, oldKey)
	require.NoError(t, err)
	expired := with(&tls.Config{Certificates: []tls.Certificate{oldPair}})
	other := erltest.NewPKI(t)
	hangUp := serve(t, func(c net.Conn) { c.Close() })
	chat := serve(t, func(c net.Conn) { _, _ = c.Write([]byte("SSH-2.0-OpenSSH\r\n")) })
	old := with(&tls.Config{Certificates: []tls.Certificate{pair}, MaxVersion: tls.VersionTLS11})
	silent := serve(t, func(net.Conn) {})
	for _, tc := range []struct {
		name, addr string
		tls        TLS
		want, hint string
	}{
		{"in order", good, TLS{CAFile: pki.CAFile, CertFile: cert, KeyFile: key}, "", ""},
		{"another name, not looked at", good, TLS{CAFile: pki.CAFile, ServerName: "x", Verify: VerifyCA}, "", ""},
		{"nothing looked at", expired, TLS{CAFile: other.CAFile, Verify: VerifyNone}, "", ""},
		{"another name", good, TLS{CAFile: pki.CAFile, ServerName: "x"}, "is for another host", "server_name"},
		{"another authority", good, TLS{CAFile: other.CAFile}, "of an authority that we do not know", "ca_file"},
		{"another authority, by that alone", good, TLS{CAFile: other.CAFile, Verify: VerifyCA}, "of an authority that we do not know", "ca_file"},
		{"expired", expired, TLS{CAFile: pki.CAFile}, "has expired", "clocks"},
		{"expired, by authority", expired, TLS{CAFile: pki.CAFile, Verify: VerifyCA}, "has expired", "clocks"},
		{"no authorities", good, TLS{CAFile: empty}, "has no certificate", "PEM"},
		{"no CA file", good, TLS{CAFile: "/no/such"}, "/no/such", "ca_file"},
		{"no key", good, TLS{CAFile: pki.CAFile, CertFile: cert, KeyFile: "/no/such"}, "read our certificate", "key_file"},
		{"hangs up", hangUp, TLS{}, "does not speak TLS", "[[targets.tls]]"},
		{"another protocol", chat, TLS{}, "does not speak TLS", "[[targets.tls]]"},
		{"too old", old, TLS{CAFile: pki.CAFile}, "the node refuses TLS with us: protocol version not supported", "ssl_dist_opt"},
		{"silent", silent, TLS{}, "no answer in time to our TLS", "[[targets.tls]]"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			defer cancel()
			c, err := Route{TLS: &tc.tls}.Dialer("shop@localhost")(ctx, "tcp", tc.addr)
			if tc.want == "" {
				require.NoError(t, err)
				require.NoError(t, c.Close())
				return
			}
			var e *TLSError
			require.ErrorAs(t, err, &e)
			assert.Contains(t, err.Error(), "set up TLS: ")
			assert.Contains(t, e.Reason, tc.want)
			assert.Contains(t, e.Hint, tc.hint)
			assert.Equal(t, tc.name == "silent", errors.Is(err, context.DeadlineExceeded))
		})
	}
	_, err = Route{TLS: &TLS{}}.Dialer("shop@localhost")(context.Background(), "tcp", "127.0.0.1:1")
	assert.ErrorContains(t, err, "connection refused", "which is not TLS's")
	ctx, cancel := context.WithCancel(context.Background())
	givesUp := serve(t, func(net.Conn) { cancel() })
	_, err = Route{TLS: &TLS{}}.Dialer("shop@localhost")(ctx, "tcp", givesUp)
	assert.ErrorIs(t, err, context.Canceled)
	assert.Equal(t, "other", AlertReason(errors.New("other")))
}
