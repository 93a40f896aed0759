package node

// Backlog is how many signals wait for room in the send queue.
func (p *Peer) Backlog() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.backlog)
}

// Watchers is how many monitors the peer has of our mailboxes.
func (p *Peer) Watchers() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.watchers)
}

// Links is how many links there are, those included that are about to end.
func (p *Peer) Links() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.links.entries)
}
