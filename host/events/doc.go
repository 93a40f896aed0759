// Package events is a member's memory of what happened: a bounded history and
// a live stream of it. Publishing never blocks, whatever subscribers do.
//
// It is not a log (that is for the developer and has its own format), it does
// not survive a restart, and it carries nothing secret: every client that may
// read may read all of it.
//
//	bus := events.New(events.Options{Member: "db1"})
//	bus.Publish(events.Event{Type: events.TargetAttached, Node: "shop@db1"})
//	for e := range bus.Subscribe(ctx, 0) {
//		fmt.Println(e.Seq, e.Type, e.Node)
//	}
package events
