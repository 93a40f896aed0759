package host

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/debughost/debughost/host/config"
	"github.com/debughost/debughost/host/reach"
)

func TestRoute(t *testing.T) {
	c := &config.Targets{
		TLS: []config.TLSRule{{Nodes: "shop1", Verify: "ca", CAFile: "a"}, {Nodes: "shop*@db?", CAFile: "b", CertFile: "c", KeyFile: "k", ServerName: "s"}},
		SSH: []config.SSHRule{{Nodes: "*@db1", Via: "bastion"}, {Nodes: "*", Via: "other"}},
	}
	assert.Equal(t, reach.Route{TLS: &reach.TLS{Verify: reach.VerifyCA, CAFile: "a"}, SSH: &reach.SSH{Via: "bastion"}}, route(c, "shop1@db1"))
	assert.Equal(t, reach.Route{TLS: &reach.TLS{CAFile: "b", CertFile: "c", KeyFile: "k", ServerName: "s"}, SSH: &reach.SSH{Via: "other"}}, route(c, "shop2@db2"))
	assert.Equal(t, reach.Route{}, route(&config.Targets{}, "shop2@db2"))
}
