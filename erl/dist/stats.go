package dist

import "sync/atomic"

// Stats counts what went over a connection since its handshake.
type Stats struct {
	BytesIn, BytesOut       int64
	MessagesIn, MessagesOut int64
	FragmentsIn             int64
	FragmentsOut            int64
	TicksIn, TicksOut       int64
	UnknownOps              int64 // messages with an operation that is not in the table of Op
	Undecodable             int64 // messages with a term in their control tuple that does not decode
	Dropped                 int64 // messages whose payload was too large
}

type counters struct {
	bytesIn, bytesOut         atomic.Int64
	messagesIn, messagesOut   atomic.Int64
	fragmentsIn, fragmentsOut atomic.Int64
	ticksIn, ticksOut         atomic.Int64
	unknownOps, undecodable   atomic.Int64
	dropped                   atomic.Int64
}

func (c *counters) snapshot() Stats {
	return Stats{
		BytesIn: c.bytesIn.Load(), BytesOut: c.bytesOut.Load(),
		MessagesIn: c.messagesIn.Load(), MessagesOut: c.messagesOut.Load(),
		FragmentsIn: c.fragmentsIn.Load(), FragmentsOut: c.fragmentsOut.Load(),
		TicksIn: c.ticksIn.Load(), TicksOut: c.ticksOut.Load(),
		UnknownOps: c.unknownOps.Load(), Undecodable: c.undecodable.Load(), Dropped: c.dropped.Load(),
	}
}
