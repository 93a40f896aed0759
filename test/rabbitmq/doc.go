// Package rabbitmq is a trial of debughost on a system that nobody here wrote: a
// RabbitMQ from Debian's packages, with queues of all kinds, connections and
// messages. Every view is asked for and has the essentials, and what was wrong with
// one once is looked at again.
//
// It is no part of `make test`, since it installs a package. The broker that it
// starts is its own, on ports, a data directory and an EPMD of its own; what
// Debian's package may start by itself is left alone.
//
//	make trial
package rabbitmq
