package target_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/debughost/debughost/erl/dist"
	"github.com/debughost/debughost/erl/erltest"
	"github.com/debughost/debughost/host/reach"
	"github.com/debughost/debughost/host/target"
)

// by has all nodes reached by one route.
func by(r reach.Route) func(*target.Config) {
	return func(c *target.Config) { c.Route = func(string) reach.Route { return r } }
}

// A node that speaks TLS and wants our certificate is attached to, asked, and
// left, as any other.
func TestTLSDistribution(t *testing.T) {
	t.Parallel()
	erltest.Each(t, func(t *testing.T, otp string) {
		for _, versions := range []string{"'tlsv1.3'", "'tlsv1.2'"} {
			pki := erltest.NewPKI(t)
			later := time.Now().Add(time.Hour)
			cert, key := pki.Issue(t, "localhost", later)
			b := erltest.Start(t, erltest.Options{OTP: otp, Args: pki.NodeArgs(t, cert, key, versions)})
			ourCert, ourKey := pki.Issue(t, "debughost", later)
			for _, verify := range []reach.Verify{"", reach.VerifyFull, reach.VerifyCA, reach.VerifyNone} {
				r := attach(t, by(reach.Route{TLS: &reach.TLS{CAFile: pki.CAFile, CertFile: ourCert, KeyFile: ourKey, Verify: verify}}), b)
				assert.Len(t, r.ps(t, target.ProcessQuery{Sort: "memory", Limit: 5}).all, 5)
				r.stop()
				b.Await(t, agents, unloaded)
			}
		}
	})
}

// What is wrong with TLS is told with what to do about it.
func TestTLSRefusals(t *testing.T) {
	t.Parallel()
	erltest.EachAtOnce(t, func(t *testing.T, otp string) {
		pki, other := erltest.NewPKI(t), erltest.NewPKI(t)
		later, past := time.Now().Add(time.Hour), time.Now().Add(-time.Hour)
		cert, key := pki.Issue(t, "localhost", later)
		oldCert, oldKey := pki.Issue(t, "localhost", past)
		awayCert, awayKey := pki.Issue(t, "elsewhere", later)
		ourCert, ourKey := pki.Issue(t, "debughost", later)
		ourOldCert, ourOldKey := pki.Issue(t, "debughost", past)
		strangeCert, strangeKey := other.Issue(t, "debughost", later)
		start := func(cert, key, versions string) *erltest.Beam {
			return erltest.Start(t, erltest.Options{OTP: otp, Args: pki.NodeArgs(t, cert, key, versions)})
		}
		good, good12 := start(cert, key, "'tlsv1.3'"), start(cert, key, "'tlsv1.2'")
		old, away := start(oldCert, oldKey, "'tlsv1.3'"), start(awayCert, awayKey, "'tlsv1.3'")
		plain := erltest.Borrow(t, otp)
		ours := func(change func(*reach.TLS)) *reach.TLS {
			c := &reach.TLS{CAFile: pki.CAFile, CertFile: ourCert, KeyFile: ourKey}
			change(c)
			return c
		}
		none := func(*reach.TLS) {}
		for name, tc := range map[string]struct {
			node         *erltest.Beam
			tls          *reach.TLS
			state        target.State
			reason, hint string
		}{
			"their authority":               {good, ours(func(c *reach.TLS) { c.CAFile = other.CAFile }), target.Refused, "of an authority that we do not know", "ca_file"},
			"their authority, not its name": {good, ours(func(c *reach.TLS) { c.CAFile, c.Verify = other.CAFile, reach.VerifyCA }), target.Refused, "of an authority that we do not know", "ca_file"},
			"system's authorities":          {good, ours(func(c *reach.TLS) { c.CAFile = "" }), target.Refused, "of an authority that we do not know", "ca_file"},
			"no certificate":                {good, ours(func(c *reach.TLS) { c.CertFile, c.KeyFile = "", "" }), target.Refused, "the node refuses TLS with us: certificate required", "cert_file and key_file"},
			"no certificate, TLS 1.2":       {good12, ours(func(c *reach.TLS) { c.CertFile, c.KeyFile = "", "" }), target.Refused, "the node refuses TLS with us: ", "cert_file and key_file"},
			"our authority":                 {good, ours(func(c *reach.TLS) { c.CertFile, c.KeyFile = strangeCert, strangeKey }), target.Refused, "the node refuses TLS with us: unknown certificate authority", "ssl_dist_opt"},
			"our expired":                   {good, ours(func(c *reach.TLS) { c.CertFile, c.KeyFile = ourOldCert, ourOldKey }), target.Refused, "the node refuses TLS with us: expired certificate", "ssl_dist_opt"},
			"their expired":                 {old, ours(none), target.Refused, "the node's certificate has expired", "renew"},
			"another host":                  {away, ours(none), target.Refused, "the node's certificate is for another host", "server_name"},
			"TLS to a plain node":           {plain, ours(none), target.Unreachable, "no answer in time to our TLS", "no [[targets.tls]] must match it"},
			"plain to a TLS node":           {good, nil, target.Refused, "the node speaks TLS distribution", "[[targets.tls]]"},
			"no such file":                  {good, ours(func(c *reach.TLS) { c.CAFile = "/no/such" }), target.Refused, "/no/such: no such file", "ca_file"},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				r := newRig(t, func(c *target.Config) {
					cookies(tc.node)(c)
					by(reach.Route{TLS: tc.tls})(c)
				})
				r.SetFound("test", found(t, tc.node))
				info := r.await(t, tc.node.Name, tc.state)
				assert.Contains(t, info.Reason, tc.reason)
				assert.Contains(t, info.Hint, tc.hint)
			})
		}
		// A wrong cookie is told as without TLS.
		r := newRig(t, func(c *target.Config) {
			by(reach.Route{TLS: ours(none)})(c)
			c.Cookie = func(string) (dist.Cookie, error) { return dist.NewCookie("wrong"), nil }
		})
		r.SetFound("test", found(t, good))
		assert.Equal(t, "wrong cookie", r.await(t, good.Name, target.Refused).Reason)
		// The name that it is for can be given.
		attach(t, by(reach.Route{TLS: ours(func(c *reach.TLS) { c.ServerName = "elsewhere" })}), away)
	})
}
