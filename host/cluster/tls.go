package cluster

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"

	"google.golang.org/grpc/credentials"
)

// Calls between members use TLS 1.3, and both sides show a certificate. A
// member's certificate is for the URI that memberURI makes of its name and the
// cluster's label (not every name of a member could be a DNS name); with the
// operator's own PKI one for the member's name as DNS name is good, too.

// uriScheme is that of members' URIs.
const uriScheme = "debughost"

// memberURI is what a member's certificate is for: debughost://label/name.
func memberURI(member, label string) *url.URL {
	return &url.URL{Scheme: uriScheme, Host: label, Path: "/" + member}
}

// memberOf is the inverse of memberURI for one label.
func memberOf(u *url.URL, label string) (string, bool) {
	name := strings.TrimPrefix(u.Path, "/")
	return name, u.Scheme == uriScheme && u.Host == label && checkName("", name, maxName) == nil
}

// material is a certificate to show and whom to trust, at one time.
type material struct {
	cert  tls.Certificate
	roots *x509.CertPool
}

// materials hands out the material in force. It may be called from any
// goroutine, once a handshake.
type materials interface{ current() (*material, error) }

// identity makes credentials from materials.
type identity struct {
	label     string
	materials materials
}

// server returns the side that accepts calls from any member.
func (i *identity) server() credentials.TransportCredentials {
	return &memberCreds{TransportCredentials: credentials.NewTLS(i.config("")), identity: i}
}

// client returns the side that calls one member, and accepts nobody else.
func (i *identity) client(member string) credentials.TransportCredentials {
	return &memberCreds{TransportCredentials: credentials.NewTLS(i.config(member)), identity: i, member: member}
}

// config verifies by itself, because what is trusted changes while it is in
// use. There is no resumption: a session would outlive a removed key.
func (i *identity) config(member string) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		ServerName:             member,
		ClientAuth:             tls.RequireAnyClientCert,
		InsecureSkipVerify:     true, // VerifyConnection does it
		SessionTicketsDisabled: true,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return i.certificate()
		},
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return i.certificate()
		},
		VerifyConnection: func(s tls.ConnectionState) error {
			usage := x509.ExtKeyUsageServerAuth
			if member == "" {
				usage = x509.ExtKeyUsageClientAuth
			}
			_, err := i.verify(s.PeerCertificates, member, usage)
			return err
		},
	}
}

func (i *identity) certificate() (*tls.Certificate, error) {
	m, err := i.materials.current()
	if err != nil {
		return nil, err
	}
	return &m.cert, nil
}

// verify checks a peer's chain and returns whom it is for. member, where it is not
// empty, is who it must be.
func (i *identity) verify(chain []*x509.Certificate, member string, usage x509.ExtKeyUsage) ([]string, error) {
	if len(chain) == 0 {
		return nil, errors.New("it shows no certificate")
	}
	m, err := i.materials.current()
	if err != nil {
		return nil, err
	}
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	leaf := chain[0]
	if _, err := leaf.Verify(x509.VerifyOptions{
		Roots: m.roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{usage},
	}); err != nil {
		return nil, fmt.Errorf("its certificate is not of this cluster: %w (is its cluster key another one?)", err)
	}
	who, ok := i.whose(leaf)
	if !ok || member != "" && !slices.Contains(who, member) {
		return nil, fmt.Errorf("its certificate is for %.200q, not for member %s of cluster %s", who, member, i.label)
	}
	return who, nil
}

// whose tells which members a certificate is for.
func (i *identity) whose(leaf *x509.Certificate) ([]string, bool) {
	var names []string
	for _, u := range leaf.URIs {
		if name, ok := memberOf(u, i.label); ok {
			names = append(names, name)
		}
	}
	for _, dns := range leaf.DNSNames {
		if checkName("", dns, maxName) == nil {
			names = append(names, dns)
		}
	}
	return names, len(names) > 0
}

// memberCreds note which member is at the other end.
type memberCreds struct {
	credentials.TransportCredentials
	identity *identity
	member   string // who it must be; "": any
}

// memberAuth is the AuthInfo of a connection between members. Nobody else can
// make one.
type memberAuth struct {
	credentials.TLSInfo
	member string
}

func (c *memberCreds) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return c.named(c.TransportCredentials.ClientHandshake(ctx, authority, raw))
}

func (c *memberCreds) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return c.named(c.TransportCredentials.ServerHandshake(raw))
}

func (c *memberCreds) named(conn net.Conn, auth credentials.AuthInfo, err error) (net.Conn, credentials.AuthInfo, error) {
	if err != nil {
		return conn, auth, err
	}
	info, ok := auth.(credentials.TLSInfo)
	if ok && len(info.State.PeerCertificates) > 0 {
		who := c.member
		if names, ok := c.identity.whose(info.State.PeerCertificates[0]); ok && who == "" {
			who = names[0]
		}
		if who != "" {
			return conn, memberAuth{info, who}, nil
		}
	}
	conn.Close()
	return nil, nil, errors.New("verify member: its certificate has no member's name")
}

func (c *memberCreds) Clone() credentials.TransportCredentials {
	return &memberCreds{c.TransportCredentials.Clone(), c.identity, c.member}
}

// PeerName tells which member is at the other end of a connection that was made
// with ServerCreds or Conn. It is false for every other connection.
func PeerName(auth credentials.AuthInfo) (string, bool) {
	m, ok := auth.(memberAuth)
	return m.member, ok
}
