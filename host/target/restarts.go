package target

import "sync"

// maxPlaces bounds the places of supervision trees whose processes are remembered,
// for each target.
const maxPlaces = 100_000

// restartBook counts restarts: another process in a place of a supervision tree
// than when debughost looked before. A place is the path of child ids from the
// application down. Nothing is left on the target for it, so what happened between
// two looks counts once, and children without an id of their own do not count, nor
// does what is below them.
type restartBook struct {
	mu       sync.Mutex
	creation uint32 // of the node: places of an earlier life mean nothing
	places   map[string]place
}

type place struct {
	pid      string
	restarts uint64
}

// look compares a tree with what was there before, and writes into it how often
// each place has changed.
func (b *restartBook) look(root *TreeNode, creation uint32, app string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.places == nil || b.creation != creation {
		b.places, b.creation = map[string]place{}, creation
	}
	if app != "" {
		b.node(root, app)
		return
	}
	for _, a := range root.Children {
		b.node(a, a.Name)
	}
}

func (b *restartBook) node(n *TreeNode, path string) {
	same := map[string]int{} // children by id: some supervisors give the same one to all
	for _, c := range n.Children {
		same[c.ID]++
	}
	for _, c := range n.Children {
		if c.ID == "" || c.Unsupervised || same[c.ID] > 1 {
			continue
		}
		at := path + "/" + c.ID
		p, known := b.places[at]
		if c.Pid != "" && c.Pid != p.pid {
			if known {
				p.restarts++
			}
			p.pid = c.Pid
			if known || len(b.places) < maxPlaces {
				b.places[at] = p
			}
		}
		c.Restarts = p.restarts
		b.node(c, at)
	}
}
