package host

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/debughost/debughost/host/blob"
	"github.com/debughost/debughost/host/cluster"
	"github.com/debughost/debughost/host/supervisor"
	"github.com/debughost/debughost/sdk"
)

const (
	// blobCopies is how many members keep each blob that a spec names, beside those
	// that have run the child.
	blobCopies = 2
	// blobsSettle is how long changes of children and members are waited for to be the
	// last, before it is looked which blobs they need.
	blobsSettle = 300 * time.Millisecond
	// blobsAgain is the pause before a blob is tried to be fetched again, and blobsSweep
	// before it is looked for those that are to go.
	blobsAgain = 15 * time.Second
	blobsSweep = 5 * time.Minute
	// blobTime bounds how long one may take to come.
	blobTime = 2 * time.Minute
)

// others are the members that answer, without this one.
func (h *Host) others() (names []string) {
	for _, m := range h.cluster.Members() {
		if !m.Self && m.State == cluster.Alive {
			names = append(names, m.Name)
		}
	}
	return names
}

// PutBlob keeps what r has, on this member.
func (h *Host) PutBlob(r io.Reader, want string) (id string, size int64, err error) {
	if h.blobs == nil {
		return "", 0, errNoBlobs
	}
	return h.blobs.Put(r, want)
}

// OpenBlob opens a blob, which may come from another member.
func (h *Host) OpenBlob(ctx context.Context, id string) (io.ReadCloser, error) {
	if _, err := h.blob(ctx, id); err != nil {
		return nil, err
	}
	return h.blobs.Open(id)
}

var errNoBlobs = errors.New("the data directory cannot be written to, and so this member keeps no bundles and no seeds")

// blob is where a blob is, which may come from another member.
func (h *Host) blob(ctx context.Context, id string) (path string, err error) {
	if h.blobs == nil {
		return "", errNoBlobs
	}
	path, err = h.blobs.Ensure(ctx, id)
	if errors.Is(err, blob.ErrNotFound) && (errors.Is(err, blob.ErrSilent) || h.someAreAway()) {
		err = fmt.Errorf("%w: %w", supervisor.ErrAway, err)
	}
	return path, err
}

// someAreAway tells whether there are members that do not answer and may again.
func (h *Host) someAreAway() bool {
	return slices.ContainsFunc(h.cluster.Members(), func(m cluster.Member) bool {
		return !m.Self && (m.State == cluster.Suspect || m.State == cluster.Unreachable)
	})
}

// keepBlobs fetches what specs name and this member is one of those to keep, so that the
// loss of the one that it was uploaded to does not lose it; and removes what none names.
func (h *Host) keepBlobs(ctx context.Context) {
	if h.blobs == nil {
		return
	}
	again := time.NewTicker(blobsAgain)
	defer again.Stop()
	var swept time.Time
	later := map[string]time.Time{} // blobs that could not be had, and when to try again
	for {
		children, members := h.children.Changed(), h.cluster.Changed()
		named, complete := h.children.Blobs()
		h.fetchBlobs(ctx, named, later)
		if complete && time.Since(swept) > blobsSweep {
			swept = time.Now()
			if _, err := h.blobs.Collect(named); err != nil {
				h.opts.Log.WithField("err", err).Warn("blobs that nothing needs stay")
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-children:
		case <-members:
		case <-again.C:
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(blobsSettle):
		}
	}
}

// fetchBlobs fetches the blobs that this member is one of those to keep.
func (h *Host) fetchBlobs(ctx context.Context, named map[string]bool, later map[string]time.Time) {
	maps.DeleteFunc(later, func(_ string, at time.Time) bool { return time.Now().After(at) })
	members := append(h.others(), h.member)
	for id := range named {
		if _, failed := later[id]; failed || ctx.Err() != nil || h.blobs.Has(id) || !slices.Contains(keepers(id, members), h.member) {
			continue
		}
		one, cancel := context.WithTimeout(ctx, blobTime)
		if _, err := h.blobs.Ensure(one, id); err != nil && ctx.Err() == nil {
			later[id] = time.Now().Add(blobsAgain)
			h.opts.Log.WithField("blob", id).WithField("err", err).Debug("blob not fetched")
		}
		cancel()
	}
}

// keepers are the members that keep a blob, by the same choice on each member.
func keepers(id string, members []string) []string {
	slices.SortFunc(members, func(a, b string) int {
		return cmp.Or(cmp.Compare(sdk.Rendezvous(id, b), sdk.Rendezvous(id, a)), cmp.Compare(a, b))
	})
	return members[:min(blobCopies, len(members))]
}
