package cluster

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
)

// TLSFiles are the paths of an operator's own PKI, in PEM. They are read again
// when they have changed.
type TLSFiles struct {
	Cert string // the member's certificate, whose first DNS name is the member's, for clients and servers; then its intermediates
	Key  string
	CA   string // whom to trust
}

// fileMaterials reads TLSFiles.
type fileMaterials struct {
	files TLSFiles
	log   *logrus.Entry
	now   func() time.Time

	mu     sync.Mutex
	looked time.Time
	stamp  [3]fileStamp
	made   *material
}

// fileStamp tells whether a file has changed.
type fileStamp struct {
	modified time.Time
	size     int64
}

// lookEvery bounds how often the files are looked at.
const lookEvery = time.Second

// current returns what the files hold. Once they were good, a later error in
// them is logged, and what they held stays in force.
func (f *fileMaterials) current() (*material, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.now()
	if f.made != nil && now.Sub(f.looked) < lookEvery {
		return f.made, nil
	}
	f.looked = now
	stamp, err := f.stamps()
	if err == nil && f.made != nil && stamp == f.stamp {
		return f.made, nil
	}
	var m *material
	if err == nil {
		m, err = f.read()
	}
	switch {
	case err == nil:
		f.made, f.stamp = m, stamp
	case f.made == nil:
		return nil, fmt.Errorf("read members' TLS files: %w", err)
	case stamp != f.stamp: // told once for each change
		f.stamp = stamp
		f.log.WithError(err).Warn("members' TLS files changed and cannot be used: the old ones stay in force")
	}
	return f.made, nil
}

func (f *fileMaterials) stamps() (out [3]fileStamp, err error) {
	for i, path := range []string{f.files.Cert, f.files.Key, f.files.CA} {
		info, err := os.Stat(path)
		if err != nil {
			return out, err
		}
		out[i] = fileStamp{info.ModTime(), info.Size()}
	}
	return out, nil
}

func (f *fileMaterials) read() (*material, error) {
	key, err := readSecret(f.files.Key)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.files.Key, err)
	}
	cert, err := os.ReadFile(f.files.Cert)
	if err != nil {
		return nil, err
	}
	ca, err := os.ReadFile(f.files.CA)
	if err != nil {
		return nil, err
	}
	m := &material{roots: x509.NewCertPool()}
	if m.cert, err = tls.X509KeyPair(cert, key); err != nil {
		return nil, fmt.Errorf("%s and %s: %w", f.files.Cert, f.files.Key, err)
	}
	if len(m.cert.Leaf.DNSNames)+len(m.cert.Leaf.URIs) == 0 {
		return nil, fmt.Errorf("%s: it is for no DNS name (want the member's name)", f.files.Cert)
	}
	if !m.roots.AppendCertsFromPEM(ca) {
		return nil, fmt.Errorf("%s: there is no certificate in it", f.files.CA)
	}
	return m, nil
}
