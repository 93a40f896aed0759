package cluster

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net/url"
	"sync"
	"time"
)

// keyMaterials derives certificates from the cluster keys. Each key has an
// authority of its own, which every holder of the key can compute: the same
// ed25519 key and, since such signatures are deterministic, the same
// certificate. Its validity is so wide that no clock matters.
type keyMaterials struct {
	ring          *Ring
	member, label string

	mu      sync.Mutex
	version uint64
	made    *material
}

func (k *keyMaterials) current() (*material, error) {
	keys, version := k.ring.snapshot()
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.made != nil && k.version == version {
		return k.made, nil
	}
	m, err := deriveMaterial(keys, k.member, k.label)
	if err != nil {
		return nil, fmt.Errorf("make certificate of member %s: %w", k.member, err)
	}
	k.made, k.version = m, version
	return m, nil
}

var (
	validFrom  = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	validUntil = time.Date(2999, 12, 31, 0, 0, 0, 0, time.UTC)
)

func deriveMaterial(keys []Key, member, label string) (*material, error) {
	m := &material{roots: x509.NewCertPool()}
	for i, k := range keys {
		ca, sign, err := authority(k, label)
		if err != nil {
			return nil, err
		}
		m.roots.AddCert(ca)
		if i > 0 {
			continue
		}
		if m.cert, err = leaf(ca, sign, member, label); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// authority returns the certificate authority of a key for a label.
func authority(k Key, label string) (*x509.Certificate, ed25519.PrivateKey, error) {
	sign := ed25519.NewKeyFromSeed(k.derive("authority " + label))
	der, err := x509.CreateCertificate(nil, &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "debughost cluster " + label + " " + k.ID()},
		NotBefore:             validFrom,
		NotAfter:              validUntil,
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	}, &x509.Certificate{Subject: pkix.Name{CommonName: "debughost cluster " + label + " " + k.ID()}}, sign.Public(), sign)
	if err != nil {
		return nil, nil, err
	}
	ca, err := x509.ParseCertificate(der)
	return ca, sign, err
}

func leaf(ca *x509.Certificate, sign ed25519.PrivateKey, member, label string) (tls.Certificate, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return tls.Certificate{}, err
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: "debughost member"},
		URIs:         []*url.URL{memberURI(member, label)},
		NotBefore:    validFrom,
		NotAfter:     validUntil,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, ca, public, sign)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private}, nil
}
