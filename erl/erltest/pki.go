package erltest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// PKI is a certificate authority of a test, for nodes with TLS distribution.
type PKI struct {
	CAFile string // its certificate, as PEM

	dir  string
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	made int64
}

// NewPKI makes an authority, with files that end with the test.
func NewPKI(t testing.TB) *PKI {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p := &PKI{dir: t.TempDir(), key: key, made: 1}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "erltest CA"},
		NotBefore: time.Now().Add(-365 * 24 * time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	if p.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	p.CAFile = p.write(t, "ca.pem", "CERTIFICATE", der)
	return p
}

// Issue makes a certificate for a host name or an address, as client and as
// server, that is valid until a time.
func (p *PKI) Issue(t testing.TB, host string, until time.Time) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p.made++
	template := &x509.Certificate{
		SerialNumber: big.NewInt(p.made), Subject: pkix.Name{CommonName: host},
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: until,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if ip := net.ParseIP(host); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{host}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, p.cert, &key.PublicKey, p.key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("%d-", p.made)
	return p.write(t, name+"cert.pem", "CERTIFICATE", der), p.write(t, name+"key.pem", "EC PRIVATE KEY", private)
}

// NodeArgs are the flags of a node with TLS distribution and this certificate,
// which wants a certificate of this authority from whoever connects. versions
// are those of TLS, as in Erlang: 'tlsv1.3'.
func (p *PKI) NodeArgs(t testing.TB, certFile, keyFile, versions string) []string {
	t.Helper()
	side := fmt.Sprintf("{certfile,%q},{keyfile,%q},{cacertfile,%q},{verify,verify_peer},{versions,[%s]}", certFile, keyFile, p.CAFile, versions)
	p.made++
	file := filepath.Join(p.dir, fmt.Sprintf("%d-ssl_dist.conf", p.made))
	text := fmt.Sprintf("[{server,[%s,{fail_if_no_peer_cert,true}]},{client,[%s]}].\n", side, side)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{"-proto_dist", "inet_tls", "-ssl_dist_optfile", file}
}

func (p *PKI) write(t testing.TB, name, kind string, der []byte) string {
	t.Helper()
	path := filepath.Join(p.dir, name)
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
