package discoverygossip

import (
	"bytes"
	"context"
	"crypto/cipher"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"time"

	"github.com/debughost/debughost/plugins/internal/listing"
	"github.com/debughost/debughost/sdk"
)

// maxSecret bounds a secret's file, in bytes.
const maxSecret = 64 << 10

// listenForTargets hears libcluster's heartbeats until ctx ends. It has no
// socket that it could send by.
func (s *Strategy) listenForTargets(ctx context.Context) error {
	key, err := s.config.libclusterKey()
	if err != nil {
		return err
	}
	list, addrs, text, err := nics()
	if err != nil {
		return err
	}
	if s.config.wantedIf() != "" {
		if list, err = pick(list, s.config.wantedIf()); err != nil {
			return err
		}
	}
	ears, err := listenMany(ctx, s.config.to(targetsPort), list)
	if err != nil {
		return err
	}
	session := &session{
		Strategy: s, board: s.targets, refused: &s.targetsRefused, ears: ears, addrs: addrs, text: text,
		hint: "secret_file must hold the secret of libcluster's config, and be left out where that has none",
		hear: func(packet []byte, _ netip.AddrPort, now time.Time) error { return s.hearTarget(packet, key, now) },
	}
	return session.run(ctx, func(ctx context.Context) {
		select {
		case <-ctx.Done():
		case <-time.After(s.config.Settle):
			s.targets.settle()
		}
	})
}

func (s *Strategy) hearTarget(packet []byte, key cipher.Block, now time.Time) error {
	name, err := hearLibcluster(packet, key)
	if err != nil || name == "" || !listing.Wanted(s.config.Include, s.config.Exclude, name) {
		return err
	}
	if _, full := s.targets.note(sdk.Node{Name: name}, 0, now); full {
		return errTooMany
	}
	return nil
}

// libclusterKey is the key of the config's secret, nil without one. The line's
// end is not part of a secret.
func (c Config) libclusterKey() (cipher.Block, error) {
	if c.SecretFile == "" {
		return nil, nil
	}
	f, err := os.Open(c.SecretFile)
	if err != nil {
		return nil, fmt.Errorf("read secret: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err == nil && len(b) > maxSecret {
		err = errors.New("it is too long")
	}
	if b = bytes.TrimRight(b, "\r\n"); err == nil && len(b) == 0 {
		err = errors.New("it is empty")
	}
	if err != nil {
		return nil, fmt.Errorf("read secret of %s: %w", c.SecretFile, err)
	}
	return libclusterKey(b)
}
