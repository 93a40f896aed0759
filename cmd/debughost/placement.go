package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/debughost/debughost/control"
	controlpb "github.com/debughost/debughost/control/proto"
)

// placementJSON is an explanation in JSON; chosen and scores are a contract.
type placementJSON struct {
	Chosen   string      `json:"chosen"` // empty: none can be
	Scores   []scoreJSON `json:"scores"`
	Strategy string      `json:"strategy"`
	Reason   string      `json:"reason"` // why none
}

type scoreJSON struct {
	Member   string             `json:"member"`
	Score    float64            `json:"score"`
	Reasons  []string           `json:"reasons"`
	Excluded bool               `json:"excluded"` // it could not be chosen; its reason says why
	Parts    map[string]float64 `json:"parts"`
}

func (a *app) placementCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:         "placement",
		Short:       "Explain where children are placed",
		Example:     `  debughost placement explain web`,
		Annotations: map[string]string{noCSV: "yes"},
		Args:        subcommandOnly,
		RunE:        func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.explainCommand())
	return cmd
}

func (a *app) explainCommand() *cobra.Command {
	f := &specFlags{}
	cmd := &cobra.Command{
		Use:   "explain ID [-f SPEC.toml] [-- COMMAND…]",
		Short: "Show each member's score for a child, and why one is chosen",
		Long: `Ask the placement strategy where a child would be placed if it were placed now, and
show what it thinks of each member. Nothing is started or moved. With an id alone it is
about a child that is there; else about what the same flags and file would start.`,
		Example: `  debughost placement explain web
  debughost placement explain -f web.toml
  debughost placement explain new --placement resources --memory 2GB --label zone=a`,
		Args:              childSpecArgs,
		ValidArgsFunction: a.completeChildren,
		RunE: func(cmd *cobra.Command, args []string) error {
			req := &controlpb.ExplainPlacementRequest{}
			switch {
			case f.given(cmd, args):
				f.planned = true
				var err error
				if req.Spec, err = f.spec(a, cmd, args); err != nil {
					return err
				}
			case len(args) == 0:
				return usagef("%s: ID is missing", cmd.Name())
			default:
				req.Id = args[0]
			}
			return a.withClient(cmd.Context(), func(ctx context.Context, c *control.Client) error {
				return a.explain(ctx, c, req)
			})
		},
	}
	f.add(a, cmd)
	return cmd
}

func (a *app) explain(ctx context.Context, c *control.Client, req *controlpb.ExplainPlacementRequest) error {
	ctx, cancel := a.within(ctx, answerTime)
	defer cancel()
	res, err := c.Placement.ExplainPlacement(ctx, req)
	var e *control.Error
	if errors.As(err, &e) && e.Code == control.UnknownChild {
		e.Hint = "of one that is yet to be started, say more: -f SPEC.toml, or flags such as --strategy process"
	}
	if err != nil {
		return err
	}
	row := placementRow(res)
	switch a.output {
	case asJSON:
		return writeJSON(a.out, row)
	case asCSV:
		return a.writeCSV([]string{"member", "score", "chosen", "reasons"}, func(write func(...string) error) error {
			for _, s := range row.Scores {
				if err := write(s.Member, scoreText(s.Score), strconv.FormatBool(s.Member == row.Chosen && row.Chosen != ""), strings.Join(s.Reasons, "; ")); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return a.printPlacement(row)
}

func placementRow(res *controlpb.ExplainPlacementResponse) placementJSON {
	row := placementJSON{Chosen: res.GetChosen(), Scores: []scoreJSON{}, Strategy: res.GetStrategy(), Reason: res.GetReason()}
	for _, s := range res.GetScores() {
		one := scoreJSON{Member: s.GetMember(), Score: s.GetTotal(), Reasons: []string{}, Excluded: s.GetExcluded() != "", Parts: map[string]float64{}}
		maps.Copy(one.Parts, s.GetParts())
		if one.Excluded {
			one.Reasons = append(one.Reasons, s.GetExcluded())
		}
		for _, name := range slices.Sorted(maps.Keys(one.Parts)) {
			one.Reasons = append(one.Reasons, name+" "+scoreText(one.Parts[name]))
		}
		row.Scores = append(row.Scores, one)
	}
	return row
}

func scoreText(v float64) string { return strconv.FormatFloat(v, 'g', 4, 64) }

func (a *app) printPlacement(row placementJSON) error {
	text := row.Strategy + " chooses " + row.Chosen
	if row.Chosen == "" {
		text = row.Strategy + " chooses no member"
		if row.Reason != "" {
			text += ": " + row.Reason
		}
	}
	if _, err := fmt.Fprintf(a.out, "%s\n\n", sane(text)); err != nil {
		return err
	}
	g := newGrid(column{name: "member", least: 10}, column{name: "score", right: true}, column{name: "reasons", free: true})
	for _, s := range row.Scores {
		score := scoreText(s.Score)
		if s.Excluded {
			score = "-"
		}
		g.add(s.Member, score, strings.Join(s.Reasons, ", "))
	}
	return g.write(a.out, a.width(), a.colors())
}
