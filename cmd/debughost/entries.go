package main

import (
	"bufio"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/debughost/debughost/control"
	controlpb "github.com/debughost/debughost/control/proto"
)

// registrationJSON is an entry of the registry in JSON; its keys are a contract.
type registrationJSON struct {
	Key       string          `json:"key"`
	Value     json.RawMessage `json:"value"` // null: none
	Owner     ownerJSON       `json:"owner"`
	Origin    string          `json:"origin"`
	Since     *time.Time      `json:"since"`
	Duplicate bool            `json:"duplicate,omitempty"`
	TTL       string          `json:"ttl,omitempty"`
}

// ownerJSON has the fields of its kind.
type ownerJSON struct {
	Kind   string `json:"kind"`
	Node   string `json:"node,omitempty"`
	Pid    string `json:"pid,omitempty"`
	Child  string `json:"child,omitempty"`
	Member string `json:"member,omitempty"`
	Lease  string `json:"lease,omitempty"`
}

func entryRow(e *controlpb.RegistryEntry) registrationJSON {
	o := e.GetOwner()
	r := registrationJSON{
		Key: e.GetKey(), Value: valueJSON(e.GetValue()), Origin: e.GetOrigin(), Since: timeRow(e.GetSince()), Duplicate: e.GetDuplicate(),
		Owner: ownerJSON{o.GetKind(), o.GetNode(), o.GetPid(), o.GetChild(), o.GetMember(), o.GetLease()},
	}
	if e.GetTtl() != nil {
		r.TTL = e.GetTtl().AsDuration().String()
	}
	return r
}

// valueJSON is a value as it is, where it is JSON, else as a string.
func valueJSON(v []byte) json.RawMessage {
	switch {
	case len(v) == 0:
		return json.RawMessage("null")
	case json.Valid(v):
		return v
	}
	s, _ := json.Marshal(string(v))
	return s
}

// ownerText says who holds an entry.
func ownerText(o *controlpb.RegistryOwner) string {
	switch o.GetKind() {
	case "pid":
		return o.GetPid() + " on " + o.GetNode()
	case "child":
		return "child " + o.GetChild()
	case "lease":
		return "lease " + o.GetLease()
	}
	return "member " + o.GetMember()
}

var entryHeader = []string{"key", "value", "owner_kind", "owner", "origin", "since"}

func entryCells(e *controlpb.RegistryEntry) []string {
	if e == nil {
		return make([]string, len(entryHeader))
	}
	return []string{e.GetKey(), string(e.GetValue()), e.GetOwner().GetKind(), ownerText(e.GetOwner()), e.GetOrigin(), timeCell(timeRow(e.GetSince()))}
}

func (a *app) lookupCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "lookup KEY",
		Short: "Show who has a key, and the value under it",
		Long: `Show who has a key, and the value under it. Of a key with many owners all are
shown. A key that nobody has is an error.`,
		Example: `  debughost registry lookup leader
  debughost registry lookup leader -o json | jq '.entries[0].value'`,
		Args:              exactArgs("KEY"),
		ValidArgsFunction: a.completeKeys,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withClient(cmd.Context(), func(ctx context.Context, c *control.Client) error {
				ctx, cancel := a.within(ctx, answerTime)
				defer cancel()
				res, err := c.Registry.Lookup(ctx, &controlpb.LookupRequest{Key: args[0]})
				if err != nil {
					return err
				}
				return a.printEntries(func(each func(*controlpb.RegistryEntry) error) error {
					for _, e := range res.GetEntries() {
						if err := each(e); err != nil {
							return err
						}
					}
					return nil
				})
			})
		},
	}
}

func (a *app) listEntriesCommand() *cobra.Command {
	req := &controlpb.ListEntriesRequest{}
	cmd := &cobra.Command{
		Use:   "list [PREFIX]",
		Short: "List the entries whose key begins with a prefix, or all",
		Example: `  debughost registry list
  debughost registry list shop/ --origin db1
  debughost registry list target/ -o csv`,
		Args:              atMostOne,
		ValidArgsFunction: a.completeKeys,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				req.Prefix = args[0]
			}
			return a.withClient(cmd.Context(), func(ctx context.Context, c *control.Client) error {
				ctx, cancel := a.within(ctx, answerTime)
				defer cancel()
				stream, err := c.Registry.List(ctx, req)
				if err != nil {
					return err
				}
				return a.printEntries(func(each func(*controlpb.RegistryEntry) error) error {
					for {
						res, err := stream.Recv()
						if errors.Is(err, io.EOF) {
							return nil
						}
						if err != nil {
							return err
						}
						for _, e := range res.GetEntries() {
							if err := each(e); err != nil {
								return err
							}
						}
					}
				})
			})
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&req.Origin, "origin", "", "only what belongs to this member")
	fl.StringVar(&req.Node, "node", "", "only what processes of this node own (its full name)")
	fl.Uint32VarP(&req.Limit, "limit", "n", 0, "how many; 0 means all")
	fl.StringVar(&req.After, "after", "", "only keys behind this one: the next page")
	_ = cmd.RegisterFlagCompletionFunc("origin", forFlag(a.completeMembers))
	_ = cmd.RegisterFlagCompletionFunc("node", a.completeNodes(-1))
	return cmd
}

// atMostOne takes an optional argument.
func atMostOne(cmd *cobra.Command, args []string) error {
	if len(args) > 1 {
		return usagef("%s: one argument too many: %q", cmd.Name(), args[1])
	}
	return nil
}

// printEntries prints what all hands to each. Entries are written as they come,
// but for the table, whose columns need all of them.
func (a *app) printEntries(all func(each func(*controlpb.RegistryEntry) error) error) error {
	switch a.output {
	case asJSON:
		l := newJSONList(a.out)
		l.begin("entries")
		if err := all(func(e *controlpb.RegistryEntry) error { return l.item(entryRow(e)) }); err != nil {
			return err
		}
		return l.close()
	case asCSV:
		return a.writeCSV(entryHeader, func(write func(...string) error) error {
			return all(func(e *controlpb.RegistryEntry) error { return write(entryCells(e)...) })
		})
	}
	g := newGrid(column{name: "key", least: 16}, column{name: "owner", least: 16}, column{name: "origin", least: 8},
		column{name: "since", right: true}, column{name: "value", free: true})
	err := all(func(e *controlpb.RegistryEntry) error {
		since := ""
		if e.GetSince() != nil {
			since = age(a.now().Sub(e.GetSince().AsTime()))
		}
		g.add(e.GetKey(), ownerText(e.GetOwner()), e.GetOrigin(), since, string(e.GetValue()))
		return nil
	})
	if err != nil {
		return err
	}
	if err := g.write(a.out, a.width(), a.colors()); err != nil {
		return err
	}
	if len(g.rows) == 0 {
		a.note("nothing is registered there")
	}
	return nil
}

// changeJSON is a change of the registry in JSON, one a line.
type changeJSON struct {
	Type  string            `json:"type"`
	Entry *registrationJSON `json:"entry,omitempty"`
	Old   *registrationJSON `json:"old,omitempty"`
}

func (a *app) watchEntriesCommand() *cobra.Command {
	req := &controlpb.WatchEntriesRequest{}
	return &cobra.Command{
		Use:   "watch [PREFIX]",
		Short: "Show the entries whose key begins with a prefix, and then every change",
		Long: `Show the entries whose key begins with a prefix, and then every change as it
happens, until Ctrl-C. With -o json each is a JSON object on a line of its own:
put, with what it replaces as old; delete; snapshot_end after what was there at the
beginning; reset when it could not keep up and begins anew.`,
		Example: `  debughost registry watch
  debughost registry watch shop/ -o json`,
		Args:              atMostOne,
		ValidArgsFunction: a.completeKeys,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				req.Prefix = args[0]
			}
			return a.withClient(cmd.Context(), func(ctx context.Context, c *control.Client) error {
				return a.watchEntries(ctx, c, req)
			})
		},
	}
}

func (a *app) watchEntries(ctx context.Context, c *control.Client, req *controlpb.WatchEntriesRequest) error {
	if a.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = a.within(ctx, answerTime)
		defer cancel()
	}
	stream, err := c.Registry.Watch(ctx, req)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(a.out)
	write := a.changeWriter(out)
	settled := false // what was there came in one go; from then on each is written at once
	for {
		ch, err := stream.Recv()
		if err != nil {
			if isCanceled(err) {
				return out.Flush() // Ctrl-C is how watching ends
			}
			return errors.Join(out.Flush(), err)
		}
		if err := write(ch); err != nil {
			return err
		}
		settled = ch.GetType() == "snapshot_end" || settled && ch.GetType() != "reset"
		if settled {
			if err := out.Flush(); err != nil {
				return err
			}
		}
	}
}

func (a *app) changeWriter(w io.Writer) func(*controlpb.EntryChange) error {
	switch a.output {
	case asJSON:
		enc := newEncoder(w)
		return func(c *controlpb.EntryChange) error {
			row := changeJSON{Type: c.GetType()}
			if c.GetEntry() != nil {
				e := entryRow(c.GetEntry())
				row.Entry = &e
			}
			if c.GetOld() != nil {
				e := entryRow(c.GetOld())
				row.Old = &e
			}
			return enc.Encode(row)
		}
	case asCSV:
		out := csv.NewWriter(w)
		begun := false
		return func(c *controlpb.EntryChange) error {
			if !begun {
				begun = true
				if err := out.Write(append([]string{"type"}, entryHeader...)); err != nil {
					return err
				}
			}
			err := out.Write(a.csvCells(append([]string{c.GetType()}, entryCells(c.GetEntry())...)))
			out.Flush()
			return errors.Join(err, out.Error())
		}
	}
	return func(c *controlpb.EntryChange) error {
		line := ""
		switch e := c.GetEntry(); c.GetType() {
		case "snapshot_end":
			return nil
		case "reset":
			line = "reset: too slow to follow every change; what is there now:"
		case "put":
			line = fmt.Sprintf("put     %s  %s, at %s  %s", e.GetKey(), ownerText(e.GetOwner()), e.GetOrigin(), e.GetValue())
		default:
			line = fmt.Sprintf("%-6s  %s  %s, at %s", c.GetType(), e.GetKey(), ownerText(e.GetOwner()), e.GetOrigin())
		}
		_, err := fmt.Fprintln(w, sane(line))
		return err
	}
}
