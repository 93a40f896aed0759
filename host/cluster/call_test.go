package cluster_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/debughost/debughost/host/cluster"
)

// serve answers health checks at a member, with a header that names the caller.
func serve(t testing.TB, m *member) {
	t.Helper()
	who := func(ctx context.Context) string {
		p, _ := peer.FromContext(ctx)
		name, _ := cluster.PeerName(p.AuthInfo)
		return name
	}
	opts := append(m.ServerOptions(),
		grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
			_ = grpc.SetHeader(ctx, metadata.Pairs("caller", who(ctx)))
			return h(ctx, req)
		}))
	s := grpc.NewServer(opts...)
	healthpb.RegisterHealthServer(s, health.NewServer())
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(m.Listener()) }()
	t.Cleanup(func() { s.Stop(); <-done })
}

// call makes a call and returns who the other side thinks made it.
func call(t testing.TB, m *member, to string) (string, error) {
	t.Helper()
	conn, err := m.Conn(to)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), longEnough)
	defer cancel()
	var head metadata.MD
	_, err = healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{}, grpc.Header(&head), grpc.WaitForReady(true))
	if len(head["caller"]) == 1 {
		return head["caller"][0], err
	}
	return "", err
}

func TestCalls(t *testing.T) {
	all := lan(t, 3)
	for _, m := range all {
		serve(t, m)
	}
	awaitAll(t, all...)
	for _, from := range all {
		for _, to := range all {
			if from == to {
				continue
			}
			who, err := call(t, from, to.cfg.Name)
			require.NoError(t, err)
			assert.Equal(t, from.cfg.Name, who)
		}
	}
	one, err := all[0].Conn("m1")
	require.NoError(t, err)
	again, err := all[0].Conn("m1")
	require.NoError(t, err)
	assert.Same(t, one, again)
	assert.Equal(t, all[0].Addr(), all[0].Listener().Addr().String())

	// A stream outlives a rotation, and new connections use the new key.
	stream, err := healthpb.NewHealthClient(one).Watch(t.Context(), &healthpb.HealthCheckRequest{})
	require.NoError(t, err)
	_, err = stream.Recv()
	require.NoError(t, err)
	old, fresh := all[0].cfg.Keys.Primary(), cluster.NewKey()
	for _, step := range []func(r *cluster.Ring) error{
		func(r *cluster.Ring) error { return r.Add(fresh) },
		func(r *cluster.Ring) error { return r.Use(fresh.ID()) },
		func(r *cluster.Ring) error { return r.Remove(old.ID()) },
	} {
		for _, m := range all {
			require.NoError(t, step(m.cfg.Keys))
			_, err := call(t, m, map[string]string{"m0": "m1", "m1": "m2", "m2": "m0"}[m.cfg.Name])
			require.NoError(t, err)
		}
	}
	_, err = call(t, all[0], "m1")
	require.NoError(t, err)
	ended := make(chan error, 1)
	go func() { _, err := stream.Recv(); ended <- err }()
	select {
	case err := <-ended:
		t.Fatalf("the stream ended: %v", err)
	default:
	}

	// The connection ends with the member's life.
	all[1].stop()
	all[0].await("m1", cluster.Dead)
	assert.Error(t, <-ended)
	_, err = all[0].Conn("m1")
	assert.ErrorIs(t, err, cluster.ErrMemberGone)
}

func TestCallsOfStrangersAreRefused(t *testing.T) {
	key := cluster.NewKey()
	a := start(t, cluster.Config{Name: "a", Bind: "127.0.0.1:0", Keys: ring(t, key)})
	serve(t, a)
	for name, cfg := range map[string]cluster.Config{
		"other key":   {Name: "b", Keys: ring(t, cluster.NewKey())},
		"other label": {Name: "b", Keys: ring(t, key), Label: "other"},
	} {
		t.Run(name, func(t *testing.T) {
			stranger, err := cluster.New(cfg)
			require.NoError(t, err)
			assert.Error(t, check(t, a.Addr(), stranger.ServerCreds()))
		})
	}
	assert.Error(t, check(t, a.Addr(), credentials.NewTLS(&tls.Config{InsecureSkipVerify: true})), "no certificate")

	friend, err := cluster.New(cluster.Config{Name: "b", Keys: ring(t, key)})
	require.NoError(t, err)
	assert.NoError(t, check(t, a.Addr(), friend.ServerCreds()))
	_, ok := cluster.PeerName(credentials.TLSInfo{})
	assert.False(t, ok)
}

func check(t *testing.T, addr string, creds credentials.TransportCredentials) error {
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(creds))
	require.NoError(t, err)
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), longEnough)
	defer cancel()
	_, err = healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{})
	return err
}

// A port that anybody can reach is spoken to by anybody.
func TestPortSurvivesStrangers(t *testing.T) {
	all := lan(t, 2)
	serve(t, all[0])
	awaitAll(t, all...)
	var silent []net.Conn
	for range 300 { // more than are waited for
		c, err := net.Dial("tcp", all[0].Addr())
		require.NoError(t, err)
		silent = append(silent, c)
	}
	for _, bytes := range []string{"GET / HTTP/1.1\r\n\r\n", "DHOS", "DHO", "D\x00\x00\x00\x00", "\x16\x03\x01\x00\x05hello", "\xf4\x01x", "\x0a\xff\xff\xff\xff", "\x00"} {
		c, err := net.Dial("tcp", all[0].Addr())
		require.NoError(t, err)
		_, _ = c.Write([]byte(bytes))
		silent = append(silent, c)
		u, err := net.Dial("udp", all[0].Addr())
		require.NoError(t, err)
		_, _ = u.Write([]byte(bytes))
		u.Close()
	}
	_, err := call(t, all[1], "m0")
	require.NoError(t, err)
	_ = silent[0].SetReadDeadline(time.Now().Add(longEnough))
	_, err = silent[0].Read(make([]byte, 1))
	assert.ErrorIs(t, err, io.EOF, "the longest silent made room")
	for _, c := range silent {
		c.Close()
	}
	assert.Equal(t, "m0 alive, m1 alive", all[1].view())
}

// pki writes a certificate authority and members' certificates into dir.
type pki struct {
	t    *testing.T
	dir  string
	ca   *x509.Certificate
	sign *ecdsa.PrivateKey
}

func newPKI(t *testing.T) *pki {
	p := &pki{t: t, dir: t.TempDir()}
	p.newCA()
	return p
}

func (p *pki) newCA() {
	var err error
	p.sign, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(p.t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ours"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, p.sign.Public(), p.sign)
	require.NoError(p.t, err)
	p.ca, err = x509.ParseCertificate(der)
	require.NoError(p.t, err)
}

func (p *pki) files(member string, names ...string) *cluster.TLSFiles {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(p.t, err)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "x"}, DNSNames: names,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, p.ca, key.Public(), p.sign)
	require.NoError(p.t, err)
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(p.t, err)
	f := &cluster.TLSFiles{
		Cert: filepath.Join(p.dir, member+".pem"), Key: filepath.Join(p.dir, member+".key"), CA: filepath.Join(p.dir, "ca.pem"),
	}
	for path, block := range map[string]*pem.Block{
		f.Cert: {Type: "CERTIFICATE", Bytes: der}, f.Key: {Type: "PRIVATE KEY", Bytes: raw}, f.CA: {Type: "CERTIFICATE", Bytes: p.ca.Raw},
	} {
		require.NoError(p.t, os.WriteFile(path, pem.EncodeToMemory(block), 0o600))
	}
	return f
}

func TestOperatorsPKI(t *testing.T) {
	p := newPKI(t)
	key := cluster.NewKey()
	a := start(t, cluster.Config{Name: "a", Bind: "127.0.0.1:0", Keys: ring(t, key), TLS: p.files("a", "a")})
	b := start(t, cluster.Config{Name: "b", Bind: "127.0.0.1:0", Keys: ring(t, key), TLS: p.files("b", "b"), Join: []string{a.Addr()}})
	// Its certificate is for another name.
	c := start(t, cluster.Config{Name: "c", Bind: "127.0.0.1:0", Keys: ring(t, key), TLS: p.files("c", "d"), Join: []string{a.Addr()}})
	for _, m := range []*member{a, b, c} {
		serve(t, m)
	}
	awaitAll(t, a, b, c)
	who, err := call(t, b, "a")
	require.NoError(t, err)
	assert.Equal(t, "b", who)
	conn, err := a.Conn("c")
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), longEnough)
	defer cancel()
	_, err = healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{})
	assert.ErrorContains(t, err, "not for member c")
}

func TestBadTLSFilesAreAnError(t *testing.T) {
	p := newPKI(t)
	good := p.files("a", "a")
	for want, f := range map[string]cluster.TLSFiles{
		"no such file":         {Cert: "x", Key: good.Key, CA: good.CA},
		"private key":          {Cert: good.Cert, Key: good.Cert, CA: good.CA},
		"there is no certific": {Cert: good.Cert, Key: good.Key, CA: good.Key},
		"for no DNS name":      *p.files("n"),
	} {
		c, err := cluster.New(cluster.Config{Name: "a", Bind: "127.0.0.1:0", Keys: ring(t, cluster.NewKey()), TLS: &f})
		require.NoError(t, err)
		assert.ErrorContains(t, c.Run(t.Context()), want)
	}
}
