package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"

	"github.com/debughost/debughost/host/blob"
	"github.com/debughost/debughost/host/supervisor"
)

func (n *nursery) ReloadChild(_ context.Context, id, bundle, note string) ([]byte, supervisor.Child, error) {
	c, err := n.act("reload "+bundle+" "+note, id)
	c.Spec.Bundle = bundle
	return []byte(cmp.Or(n.answers["reload"], "{}")), c, err
}

func (n *nursery) OperateChild(_ context.Context, id, operation string, input []byte) ([]byte, error) {
	_, err := n.act("operate "+operation+" "+string(input), id)
	if answer := n.answers[operation]; answer != "" {
		input = []byte(answer)
	}
	return input, err
}

func (n *nursery) SnapshotChild(_ context.Context, id string, w io.Writer) error {
	_, err := n.act("snapshot", id)
	if err == nil {
		_, err = io.WriteString(w, "state")
	}
	return err
}

func (n *nursery) PutBlob(r io.Reader, _ string) (string, int64, error) {
	data, err := io.ReadAll(r)
	sum := sha256.Sum256(data)
	id := hex.EncodeToString(sum[:])
	if n.blobs == nil {
		n.blobs = map[string][]byte{}
	}
	n.blobs[id] = data
	return id, int64(len(data)), err
}

func (n *nursery) OpenBlob(_ context.Context, id string) (io.ReadCloser, error) {
	data, ok := n.blobs[id]
	if !ok {
		return nil, blob.ErrNotFound
	}
	return io.NopCloser(bytes.NewReader(data)), nil
}
