package reach

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"
)

// Verify says what is checked of a node's certificate.
type Verify string

// What is checked.
const (
	VerifyFull Verify = "full" // who issued it, and that it is for the node's host; the default
	VerifyCA   Verify = "ca"   // who issued it
	VerifyNone Verify = "none" // nothing: whoever is between can read and change all
)

// TLS is the client's side of a node with -proto_dist inet_tls. Files are PEM,
// and read for each connection, so that a renewed certificate is used by the
// next one.
type TLS struct {
	CAFile   string // who may have issued the nodes' certificates; empty: whom this system trusts
	CertFile string // ours, with its chain; empty: none
	KeyFile  string
	// ServerName is what the certificate must be for; empty: the part of the
	// node's name behind the @.
	ServerName string
	Verify     Verify
}

// A TLSError says why there is no TLS with a node, on our side of it.
type TLSError struct {
	Reason string // for a person
	Hint   string
	Err    error
}

func (e *TLSError) Error() string { return "set up TLS: " + e.Reason }

// Unwrap returns the cause.
func (e *TLSError) Unwrap() error { return e.Err }

// handshakeTime bounds TLS's handshake. A node without TLS waits for the rest of
// what it takes for a long message, and says nothing.
const handshakeTime = 5 * time.Second

// over returns a Dial that speaks TLS through what below opens.
func (t *TLS) over(below Dial, node string) Dial {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		cfg, err := t.config(node)
		if err != nil {
			return nil, err
		}
		nc, err := below(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		c := tls.Client(nc, cfg)
		ctx, cancel := context.WithTimeout(ctx, handshakeTime)
		defer cancel()
		if err := c.HandshakeContext(ctx); err != nil {
			nc.Close()
			return nil, explain(ctx, err)
		}
		return c, nil
	}
}

// Check reads the files as a connection would, and tells until when our own
// certificate is valid; the zero time where there is none.
func (t *TLS) Check() (until time.Time, err error) {
	cfg, err := t.config("")
	if err != nil || cfg.GetClientCertificate == nil {
		return time.Time{}, err
	}
	cert, err := cfg.GetClientCertificate(nil)
	if err != nil {
		return time.Time{}, err
	}
	return cert.Leaf.NotAfter, nil
}

// config reads the files.
func (t *TLS) config(node string) (*tls.Config, error) {
	cfg := &tls.Config{ServerName: t.ServerName, MinVersion: tls.VersionTLS12}
	if cfg.ServerName == "" {
		_, cfg.ServerName, _ = strings.Cut(node, "@")
	}
	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, &TLSError{Reason: err.Error(), Hint: "see ca_file in [[targets.tls]]", Err: err}
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, &TLSError{Reason: t.CAFile + " has no certificate", Hint: "it must have certificates as PEM; see ca_file in [[targets.tls]]"}
		}
	}
	if t.CertFile != "" {
		cert, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
		if err != nil {
			return nil, &TLSError{Reason: fmt.Sprintf("read our certificate %s: %v", t.CertFile, err), Hint: "see cert_file and key_file in [[targets.tls]]", Err: err}
		}
		// Also where the node lists other authorities: its own words say more.
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
	}
	switch t.Verify {
	case VerifyNone:
		cfg.InsecureSkipVerify = true
	case VerifyCA:
		cfg.InsecureSkipVerify = true // of the name, that is
		roots := cfg.RootCAs
		cfg.VerifyConnection = func(s tls.ConnectionState) error { return verifyChain(s.PeerCertificates, roots) }
	}
	return cfg, nil
}

// verifyChain checks who issued a certificate, and when.
func verifyChain(certs []*x509.Certificate, roots *x509.CertPool) error {
	o := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool()}
	for _, c := range certs[1:] { // a server has one, or the handshake fails before
		o.Intermediates.AddCert(c)
	}
	if _, err := certs[0].Verify(o); err != nil {
		return &tls.CertificateVerificationError{UnverifiedCertificates: certs, Err: err}
	}
	return nil
}

// explain makes a person's words of an error of our side of the handshake.
func explain(ctx context.Context, err error) error {
	var ssh *SSHError
	if errors.As(err, &ssh) {
		return err
	}
	e := &TLSError{Reason: err.Error(), Err: err}
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	var name x509.HostnameError
	var record tls.RecordHeaderError
	var refused *net.OpError
	switch {
	case ctx.Err() != nil || errors.Is(err, os.ErrDeadlineExceeded):
		e.Reason, e.Hint = "no answer in time to our TLS", "is it a node without TLS? Then no [[targets.tls]] must match it"
		e.Err = context.DeadlineExceeded
		if errors.Is(ctx.Err(), context.Canceled) {
			e.Err = context.Canceled
		}
	case errors.As(err, &unknown):
		e.Reason, e.Hint = "the node's certificate is of an authority that we do not know", "give its certificate by ca_file in [[targets.tls]]"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		e.Reason, e.Hint = "the node's certificate has expired or is not valid yet: "+invalid.Detail, "renew it, and look at the clocks of both machines"
	case errors.As(err, &invalid):
		e.Reason = "the node's certificate is not valid: " + invalid.Error()
	case errors.As(err, &name):
		e.Reason, e.Hint = "the node's certificate is for another host: "+name.Error(), `set server_name in [[targets.tls]] to what it is for, or verify = "ca"`
	case errors.As(err, &record), errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
		e.Reason, e.Hint = "what listens there does not speak TLS", "is it a node without TLS? Then no [[targets.tls]] must match it"
	case IsAlert(err) && errors.As(err, &refused):
		e.Reason, e.Hint = AlertReason(refused), AlertHint
	}
	return e
}

// AlertHint is what to do where the node refuses TLS with us.
const AlertHint = "the node's ssl_dist_opt say whose certificates it takes, and whether it wants one: see cert_file and key_file in [[targets.tls]]; its own log says more"

// IsAlert tells whether the other side ended TLS with an alert. With TLS 1.3 a
// certificate of ours that it does not want is told so after the handshake.
func IsAlert(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error"
}

// AlertReason is an alert in a person's words.
func AlertReason(err error) string {
	var op *net.OpError
	if !errors.As(err, &op) {
		return err.Error()
	}
	return "the node refuses TLS with us: " + strings.TrimPrefix(op.Err.Error(), "tls: ")
}
