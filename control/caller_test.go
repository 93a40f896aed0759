package control

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/proto"

	controlpb "github.com/debughost/debughost/control/proto"
)

// callerWith is who a member says that it passes a call on for.
func callerWith(mark string) Caller {
	ctx := peer.NewContext(context.Background(), &peer.Peer{AuthInfo: nameInfo("b")})
	ctx = metadata.NewIncomingContext(ctx, metadata.Pairs(forwardedKey, mark))
	return memberCaller(func(a credentials.AuthInfo) (string, bool) { return string(a.(nameInfo)), true })(ctx)
}

func TestMemberCaller(t *testing.T) {
	b, err := proto.Marshal(&controlpb.Forwarded{Caller: "uid 7", Call: "c1"})
	assert.NoError(t, err)
	assert.Equal(t, Caller{Member: "b", Forwarded: true, For: "uid 7", Call: "c1"}, callerWith(string(b)))
}

// Whatever the mark of a forwarded call says, it stays one, and small.
func FuzzForwardedMark(f *testing.F) {
	f.Add("")
	f.Add("\x0a\x05uid 7\x12\x02c1")
	f.Add(string(make([]byte, 2*maxForwarded)))
	f.Fuzz(func(t *testing.T, mark string) {
		c := callerWith(mark)
		if c.Member != "b" || !c.Forwarded || len(c.For)+len(c.Call) > 2*maxForwarded {
			t.Errorf("%q: %+v", mark, c)
		}
	})
}
