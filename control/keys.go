package control

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	controlpb "github.com/debughost/debughost/control/proto"
	"github.com/debughost/debughost/host/cluster"
)

// maxKeyText bounds what is taken for a key or its id.
const maxKeyText = 1024

func (s *clusterService) keysThere(tried string) error {
	if s.keys == nil {
		return &Error{
			Code: Failed, Tried: tried, Cause: tried + ": this debughost has no cluster key",
			Hint: "start it with --cluster-key-file; `debughost keygen` makes one",
		}
	}
	return nil
}

func (s *clusterService) ListKeys(ctx context.Context, req *controlpb.ListKeysRequest) (*controlpb.ListKeysResponse, error) {
	if err := s.keysThere("list keys"); err != nil {
		return nil, err
	}
	keys := map[string]*controlpb.Key{}
	add := func(id, member string, primary bool) {
		k := keys[id]
		if k == nil {
			k = &controlpb.Key{KeyId: id}
			keys[id] = k
		}
		k.Members = append(k.Members, member)
		if primary {
			k.Primary = append(k.Primary, member)
		}
	}
	for _, k := range s.keys.Keys() {
		add(k.ID, s.self(), k.Primary)
	}
	res := &controlpb.ListKeysResponse{}
	if !callerFrom(ctx).Forwarded {
		answers, failed := s.forward.others(ctx, controlpb.Cluster_ListKeys_FullMethodName, req)
		for member, answer := range answers {
			for _, k := range answer.(*controlpb.ListKeysResponse).GetKeys() {
				add(k.GetKeyId(), member, len(k.GetPrimary()) > 0)
			}
		}
		res.Errors = memberErrors(failed)
	}
	for _, id := range slices.Sorted(maps.Keys(keys)) {
		slices.Sort(keys[id].Members)
		slices.Sort(keys[id].Primary)
		res.Keys = append(res.Keys, keys[id])
	}
	return res, nil
}

func (s *clusterService) AddKey(ctx context.Context, req *controlpb.AddKeyRequest) (*controlpb.ChangeKeyResponse, error) {
	const tried = "add a key"
	if err := s.keysThere(tried); err != nil {
		return nil, err
	}
	if len(req.GetKey()) > maxKeyText || !LooksLikeKey(req.GetKey()) {
		e := badRequest(tried, "this is no cluster key")
		e.Hint = "`debughost keygen` makes one"
		return nil, e
	}
	id := ""
	return s.changeKey(ctx, tried, controlpb.Cluster_AddKey_FullMethodName, req, func() (string, error) {
		var err error
		id, err = s.keys.AddKey(strings.TrimSpace(req.GetKey()))
		return id, err
	})
}

func (s *clusterService) UseKey(ctx context.Context, req *controlpb.UseKeyRequest) (*controlpb.ChangeKeyResponse, error) {
	tried := "use key " + clean(req.GetKeyId())
	if err := s.checkKeyID(tried, req.GetKeyId()); err != nil {
		return nil, err
	}
	if !req.GetForce() && !callerFrom(ctx).Forwarded {
		if err := s.allHave(ctx, tried, req.GetKeyId()); err != nil {
			return nil, err
		}
	}
	return s.changeKey(ctx, tried, controlpb.Cluster_UseKey_FullMethodName, req, func() (string, error) {
		return req.GetKeyId(), s.keys.UseKey(req.GetKeyId())
	})
}

// allHave returns an error while a member lacks a key: it would not understand
// the others any more.
func (s *clusterService) allHave(ctx context.Context, tried, id string) error {
	have, err := s.ListKeys(ctx, &controlpb.ListKeysRequest{})
	if err != nil {
		return err
	}
	var with []string
	for _, k := range have.GetKeys() {
		if k.GetKeyId() == id {
			with = k.GetMembers()
		}
	}
	lacks := map[string]string{}
	for _, e := range have.GetErrors() {
		lacks[e.GetMember()] = e.GetError()
	}
	for _, k := range have.GetKeys() {
		for _, m := range k.GetMembers() {
			if !slices.Contains(with, m) {
				lacks[m] = "member " + m + " does not have it"
			}
		}
	}
	if len(lacks) == 0 {
		return nil
	}
	var why []string
	for _, m := range slices.Sorted(maps.Keys(lacks)) {
		why = append(why, lacks[m])
	}
	return &Error{
		Code: Conflict, Tried: tried, Cause: tried + ": " + strings.Join(why, "; "),
		Hint: "give it to all with `debughost keys add` first; --force leaves those behind that lack it",
	}
}

func (s *clusterService) RemoveKey(ctx context.Context, req *controlpb.RemoveKeyRequest) (*controlpb.ChangeKeyResponse, error) {
	tried := "remove key " + clean(req.GetKeyId())
	if err := s.checkKeyID(tried, req.GetKeyId()); err != nil {
		return nil, err
	}
	return s.changeKey(ctx, tried, controlpb.Cluster_RemoveKey_FullMethodName, req, func() (string, error) {
		return req.GetKeyId(), s.keys.RemoveKey(req.GetKeyId())
	})
}

func (s *clusterService) checkKeyID(tried, id string) error {
	if err := s.keysThere(tried); err != nil {
		return err
	}
	if id == "" || len(id) > maxKeyText {
		return badRequest(tried, "it names no key")
	}
	return nil
}

// changeKey does something to the key here and then on all other members. What
// this member refuses, the others are not asked; what one of them refuses is an
// error of its own.
func (s *clusterService) changeKey(ctx context.Context, tried, method string, req proto.Message, here func() (string, error)) (*controlpb.ChangeKeyResponse, error) {
	id, err := here()
	var unkept *cluster.KeyFileError
	if err != nil && (!errors.As(err, &unkept) || callerFrom(ctx).Forwarded) {
		return nil, describe(tried, err)
	}
	res := &controlpb.ChangeKeyResponse{KeyId: id, Members: []string{s.self()}}
	if callerFrom(ctx).Forwarded {
		return res, nil
	}
	answers, failed := s.forward.others(ctx, method, req)
	if unkept != nil { // it is in force
		failed[s.self()] = err
	}
	for member := range answers {
		res.Members = append(res.Members, member)
	}
	slices.Sort(res.Members)
	res.Errors = memberErrors(failed)
	return res, nil
}

func memberErrors(failed map[string]error) []*controlpb.MemberError {
	var out []*controlpb.MemberError
	for _, member := range slices.Sorted(maps.Keys(failed)) {
		e := describe("", failed[member])
		text := e.Cause
		if !strings.Contains(text, "member "+member) {
			text = fmt.Sprintf("member %s: %s", member, text)
		}
		out = append(out, &controlpb.MemberError{Member: member, Error: clean(text), Hint: clean(e.Hint), Code: string(e.Code)})
	}
	return out
}
