package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"
)

// knownFile is where known members are kept, so that a member that restarts
// finds the others without discovery, and counts the same quorum.
const knownFile = "members.json"

// maxKnownFile bounds what is read of it.
const maxKnownFile = 4 << 20

// keepPause is how long changes are gathered before they are written.
const keepPause = 500 * time.Millisecond

type knownMembers struct {
	Members []knownMember `json:"members"`
}

type knownMember struct {
	Name     string    `json:"name"`
	ID       string    `json:"id"`
	Epoch    uint64    `json:"epoch"`
	Address  string    `json:"address"`
	Left     bool      `json:"left,omitempty"`
	LastSeen time.Time `json:"last_seen"`
}

// recall puts the members that were known into the table, as dead ones, which
// are tried at once, or as ones that have left. A file that cannot be read is a
// warning.
func (c *Cluster) recall() {
	if c.cfg.Store == nil {
		return
	}
	data, err := c.cfg.Store.Read(knownFile)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var known knownMembers
	if err == nil {
		known, err = parseKnown(data)
	}
	if err != nil {
		c.log.WithError(err).Warn("known members cannot be read: this member finds the others by discovery only")
		return
	}
	c.update(func(t *table, now time.Time) {
		var claims []claim
		for _, m := range known.Members {
			claims = append(claims, claim{
				name: m.Name, id: m.ID, addr: m.Address, epoch: m.Epoch, left: m.Left,
				age: max(0, now.Sub(m.LastSeen)),
			})
		}
		t.learn(now, claims)
		t.hadQuorum = t.quorum().Has // nothing was lost by starting
		t.take()
	})
}

func parseKnown(data []byte) (known knownMembers, err error) {
	if len(data) > maxKnownFile {
		return known, fmt.Errorf("parse %s: %d bytes", knownFile, len(data))
	}
	if err := json.Unmarshal(data, &known); err != nil {
		return known, fmt.Errorf("parse %s: %w", knownFile, err)
	}
	for i, m := range known.Members {
		if i >= maxKnown {
			return known, fmt.Errorf("parse %s: more than %d members", knownFile, maxKnown)
		}
		if err := checkName("member name", m.Name, maxName); err != nil {
			return known, fmt.Errorf("parse %s: %w", knownFile, err)
		}
	}
	return known, nil
}

// keep writes known members after they have changed, until ctx ends, and then a
// last time. A disk that does not take them is told once.
func (c *Cluster) keep(ctx context.Context) {
	if c.cfg.Store == nil {
		return
	}
	failed := false
	for last := false; !last; {
		select {
		case <-c.keepNow:
			select {
			case <-time.After(keepPause):
			case <-ctx.Done():
				last = true
			}
		case <-ctx.Done():
			last = true
		}
		err := c.cfg.Store.Write(knownFile, c.known())
		switch {
		case err != nil && !failed:
			c.log.WithError(err).Warn("known members cannot be kept: after a restart this member finds the others by discovery only")
		case err == nil && failed:
			c.log.Info("known members are kept again")
		}
		failed = err != nil
	}
}

func (c *Cluster) known() []byte {
	now := time.Now()
	known := knownMembers{Members: []knownMember{}}
	for _, m := range c.Members() {
		if m.Self {
			continue
		}
		k := knownMember{Name: m.Name, ID: m.ID, Epoch: m.Epoch, Address: m.Addr, Left: m.State == Left, LastSeen: now}
		if m.State.gone() {
			k.LastSeen = m.Since
		}
		known.Members = append(known.Members, k)
	}
	out, err := json.MarshalIndent(known, "", "\t")
	if err != nil { // strings, numbers and times
		panic(err)
	}
	return append(out, '\n')
}
