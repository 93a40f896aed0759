package doctor

import (
	"context"
	"errors"
	"os/exec"
	"time"

	"github.com/debughost/debughost/host/reach"
)

// renewWithin is how long before its end a certificate of ours is worth a word.
const renewWithin = 14 * 24 * time.Hour

// routes looks at what the rules for TLS and for jump hosts need here. It
// connects to nobody.
func (e *examination) routes(context.Context) {
	if e.cfg == nil {
		return
	}
	for _, rule := range e.cfg.Targets.TLS {
		name := "tls " + rule.Nodes
		until, err := (&reach.TLS{CAFile: rule.CAFile, CertFile: rule.CertFile, KeyFile: rule.KeyFile}).Check()
		var why *reach.TLSError
		switch left := time.Until(until); {
		case errors.As(err, &why):
			e.add(name, Fail, why.Hint, "%s", why.Reason)
		case err != nil:
			e.fail(name, err, "")
		case until.IsZero():
			e.ok(name, "without a certificate of ours: the nodes must not want one")
		case left <= 0:
			e.add(name, Fail, "renew it", "our certificate %s has expired on %s", rule.CertFile, until.Format(time.DateOnly))
		case left < renewWithin:
			e.add(name, Warn, "renew it", "our certificate %s expires on %s", rule.CertFile, until.Format(time.DateOnly))
		default:
			e.ok(name, "our certificate %s is valid until %s", rule.CertFile, until.Format(time.DateOnly))
		}
	}
	if len(e.cfg.Targets.SSH) == 0 {
		return
	}
	if path, err := exec.LookPath("ssh"); err != nil {
		e.add("ssh", Fail, "install OpenSSH's client, or leave [[targets.ssh]] out", "there is no ssh in PATH")
	} else {
		e.ok("ssh", "%s", path)
	}
}
