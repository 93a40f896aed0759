package host

import (
	"github.com/debughost/debughost/host/config"
	"github.com/debughost/debughost/host/reach"
)

// route is how the configuration has a node reached. Of each sort of rule the
// first that matches counts.
func route(t *config.Targets, node string) reach.Route {
	var r reach.Route
	for _, rule := range t.TLS {
		if config.Match(rule.Nodes, node) {
			r.TLS = &reach.TLS{
				CAFile: rule.CAFile, CertFile: rule.CertFile, KeyFile: rule.KeyFile,
				ServerName: rule.ServerName, Verify: reach.Verify(rule.Verify),
			}
			break
		}
	}
	for _, rule := range t.SSH {
		if config.Match(rule.Nodes, node) {
			r.SSH = &reach.SSH{Via: rule.Via}
			break
		}
	}
	return r
}
