package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/debughost/debughost/control"
	controlpb "github.com/debughost/debughost/control/proto"
)

func (a *app) keygenCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "keygen [FILE]",
		Short: "Make a cluster key",
		Long: `Make a cluster key: the secret that all members of a cluster share. With it a
member proves that it is one, and all that members say to each other is encrypted.

Without FILE the key is printed. With FILE it is written there, for its owner
alone; a file that exists is left as it is. No debughost needs to run.`,
		Example: `  debughost keygen /etc/debughost/cluster.key
  debughost keygen | ssh db2 'umask 077; cat > cluster.key'`,
		Args:        atMostOne,
		Annotations: map[string]string{noCSV: "yes"},
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				key, id := control.NewKey()
				if a.output == asJSON {
					return writeJSON(a.out, map[string]string{"key": key, "key_id": id})
				}
				_, err := fmt.Fprintln(a.out, key)
				return err
			}
			id, err := control.CreateKeyFile(args[0])
			if err != nil {
				return err
			}
			if a.output == asJSON {
				return writeJSON(a.out, map[string]string{"key_id": id, "file": args[0]})
			}
			_, err = fmt.Fprintf(a.out, "wrote cluster key %s to %s\n", id, sane(args[0]))
			return err
		},
	}
}

func (a *app) keysCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "keys",
		Short: "Replace the cluster key while the cluster runs",
		Long: `Replace the cluster key while the cluster runs. A member may have several keys: it
understands all of them and speaks with one. So a key is replaced in three steps,
none of which interrupts anything:

  debughost keygen new.key
  debughost keys add new.key      all members understand it
  debughost keys use ID           all members speak with it
  debughost keys remove OLD-ID    all members forget the old one

Each step goes to all members at once. Where one of them does not take it, that is
told and the exit code is 3: mend it and do the step again.`,
		Example: `  debughost keys list
  debughost keys add new.key`,
		Annotations: map[string]string{noCSV: "yes"},
		Args:        subcommandOnly,
		RunE:        func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.keysListCommand(), a.keysAddCommand(), a.keysUseCommand(), a.keysRemoveCommand())
	return cmd
}

// keyJSON is a cluster key in JSON, without the key.
type keyJSON struct {
	KeyID   string   `json:"key_id"`
	Members []string `json:"members"` // that have it
	Primary []string `json:"primary"` // that speak with it
}

// memberErrorJSON is the error of a member in JSON.
type memberErrorJSON struct {
	Member string `json:"member"`
	Error  string `json:"error"`
}

func (a *app) keysListCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "Show which members have which keys, by the keys' ids",
		Example: `  debughost keys list`,
		Args:    exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withClient(cmd.Context(), func(ctx context.Context, c *control.Client) error {
				ctx, cancel := a.within(ctx, answerTime)
				defer cancel()
				res, err := c.Cluster.ListKeys(ctx, &controlpb.ListKeysRequest{})
				if err != nil {
					return err
				}
				return a.printKeys(res)
			})
		},
	}
}

func (a *app) printKeys(res *controlpb.ListKeysResponse) error {
	var err error
	switch a.output {
	case asJSON:
		l := newJSONList(a.out)
		l.begin("keys")
		for _, k := range res.GetKeys() {
			if err := l.item(keyJSON{k.GetKeyId(), append([]string{}, k.GetMembers()...), append([]string{}, k.GetPrimary()...)}); err != nil {
				return err
			}
		}
		l.begin("errors")
		for _, e := range res.GetErrors() {
			if err := l.item(memberErrorJSON{e.GetMember(), e.GetError()}); err != nil {
				return err
			}
		}
		err = l.close()
	case asCSV:
		err = a.writeCSV([]string{"key_id", "members", "primary"}, func(write func(...string) error) error {
			for _, k := range res.GetKeys() {
				if err := write(k.GetKeyId(), strings.Join(k.GetMembers(), " "), strings.Join(k.GetPrimary(), " ")); err != nil {
					return err
				}
			}
			return nil
		})
	default:
		g := newGrid(column{name: "key_id"}, column{name: "spoken_by", least: 12}, column{name: "known_to", least: 12})
		for _, k := range res.GetKeys() {
			g.add(k.GetKeyId(), strings.Join(k.GetPrimary(), " "), strings.Join(k.GetMembers(), " "))
		}
		err = g.write(a.out, a.width(), a.colors())
	}
	if err != nil {
		return err
	}
	return a.memberErrors(res.GetErrors())
}

// memberErrors tells what failed on which member, and makes the exit code of it.
func (a *app) memberErrors(errs []*controlpb.MemberError) error {
	if len(errs) == 0 {
		return nil
	}
	if a.output != asJSON {
		var rows []nodeErrorJSON
		for _, e := range errs {
			rows = append(rows, nodeErrorJSON{Node: e.GetMember(), Error: e.GetError(), hint: e.GetHint()})
		}
		a.printNodeErrors(rows)
	}
	return errPartial
}

// keyChanged tells what a step of a rotation did.
func (a *app) keyChanged(what string, res *controlpb.ChangeKeyResponse) error {
	if a.output == asJSON {
		errs := []memberErrorJSON{}
		for _, e := range res.GetErrors() {
			errs = append(errs, memberErrorJSON{e.GetMember(), e.GetError()})
		}
		err := writeJSON(a.out, struct {
			KeyID   string            `json:"key_id"`
			Members []string          `json:"members"`
			Errors  []memberErrorJSON `json:"errors"`
		}{res.GetKeyId(), append([]string{}, res.GetMembers()...), errs})
		if err != nil {
			return err
		}
	} else if _, err := fmt.Fprintf(a.out, "%s key %s: %s\n", what, sane(res.GetKeyId()), sane(strings.Join(res.GetMembers(), ", "))); err != nil {
		return err
	}
	return a.memberErrors(res.GetErrors())
}

func (a *app) keysAddCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "add FILE",
		Short: "Give all members one more key, from a file or, with -, from standard input",
		Example: `  debughost keys add new.key
  debughost keygen | tee new.key | debughost keys add -`,
		Args:        exactArgs("FILE"),
		Annotations: map[string]string{noCSV: "yes"},
		RunE: func(cmd *cobra.Command, args []string) error {
			key, err := a.readKey(args[0])
			if err != nil {
				return err
			}
			return a.withClient(cmd.Context(), func(ctx context.Context, c *control.Client) error {
				ctx, cancel := a.within(ctx, answerTime)
				defer cancel()
				res, err := c.Cluster.AddKey(ctx, &controlpb.AddKeyRequest{Key: key})
				if err != nil {
					return err
				}
				return a.keyChanged("added", res)
			})
		},
	}
}

// readKey reads the one key of a file. No error has a key in it, not even when
// one was given in place of a file.
func (a *app) readKey(path string) (string, error) {
	var text []byte
	var err error
	if path == "-" {
		path = "standard input"
		text, err = io.ReadAll(io.LimitReader(a.in, 64<<10))
	} else {
		text, err = os.ReadFile(path)
	}
	var pathErr *fs.PathError
	switch {
	case errors.As(err, &pathErr) && errors.Is(err, fs.ErrNotExist) && control.LooksLikeKey(path):
		return "", usagef("add: a key must not be an argument, where others can see it: give a file, or - for standard input")
	case errors.As(err, &pathErr):
		return "", fmt.Errorf("read key file %s: %w", path, pathErr.Err)
	case err != nil:
		return "", fmt.Errorf("read key from %s: %w", path, err)
	}
	var keys []string
	for line := range bytes.Lines(text) {
		if s := strings.TrimSpace(string(line)); s != "" && !strings.HasPrefix(s, "#") {
			keys = append(keys, s)
		}
	}
	if len(keys) != 1 {
		return "", usagef("add: there are %d keys in %s, and one is added at a time", len(keys), path)
	}
	return keys[0], nil
}

func (a *app) keysUseCommand() *cobra.Command {
	req := &controlpb.UseKeyRequest{}
	cmd := &cobra.Command{
		Use:   "use ID",
		Short: "Have all members speak with a key that all of them have",
		Long: `Have all members speak with a key. It is refused while a member lacks it, which
would not understand the others any more; --force leaves such a member behind.`,
		Example:           `  debughost keys use 1a2b3c4d`,
		Args:              exactArgs("ID"),
		Annotations:       map[string]string{noCSV: "yes"},
		ValidArgsFunction: a.completeKeyIDs,
		RunE: func(cmd *cobra.Command, args []string) error {
			req.KeyId = args[0]
			return a.withClient(cmd.Context(), func(ctx context.Context, c *control.Client) error {
				ctx, cancel := a.within(ctx, answerTime)
				defer cancel()
				res, err := c.Cluster.UseKey(ctx, req)
				if err != nil {
					return err
				}
				return a.keyChanged("using", res)
			})
		},
	}
	cmd.Flags().BoolVar(&req.Force, "force", false, "although a member lacks the key")
	return cmd
}

func (a *app) keysRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "remove ID",
		Short:             "Have all members forget a key that none speaks with",
		Example:           `  debughost keys remove 1a2b3c4d`,
		Args:              exactArgs("ID"),
		Annotations:       map[string]string{noCSV: "yes"},
		ValidArgsFunction: a.completeKeyIDs,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withClient(cmd.Context(), func(ctx context.Context, c *control.Client) error {
				ctx, cancel := a.within(ctx, answerTime)
				defer cancel()
				res, err := c.Cluster.RemoveKey(ctx, &controlpb.RemoveKeyRequest{KeyId: args[0]})
				if err != nil {
					return err
				}
				return a.keyChanged("removed", res)
			})
		},
	}
}
