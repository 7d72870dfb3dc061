package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ggfleet/ggfleet/controlplane/api"
)

// eventTypes are the types that can be asked for.
func eventTypes() []api.EventType {
	return []api.EventType{
		api.EventCoreCreated, api.EventCoreDeleted, api.EventCoreTemplateUpdated, api.EventDeviceCreated, api.EventDeviceDeleted,
		api.EventDeploymentTaskCreated, api.EventDeploymentTaskDeleted, api.EventHelpRequested, api.EventHelpEnded,
	}
}

// eventType reads a type as it stands in events, or in small letters with
// hyphens and without "event": core-created.
func eventType(text string) (api.EventType, error) {
	plain := func(s string) string {
		return strings.TrimSuffix(strings.NewReplacer(" ", "", "-", "").Replace(strings.ToLower(s)), "event")
	}
	var all []string
	for _, t := range eventTypes() {
		if plain(text) == plain(string(t)) {
			return t, nil
		}
		words := strings.ReplaceAll(strings.ToLower(string(t)), "deploymenttask", "deployment task")
		all = append(all, strings.ReplaceAll(strings.TrimSuffix(words, " event"), " ", "-"))
	}
	return "", failure(ExitUsage, "--type %q: want one of %s", text, strings.Join(all, ", "))
}

func (a *app) events() *cobra.Command {
	var follow bool
	var after int64
	var core, kind string
	var limit int
	var cmd *cobra.Command
	cmd = a.command("events", "List events, or follow them as they happen", cobra.NoArgs, func(ctx context.Context, c *client, _ []string) (result, error) {
		s := subscription{core: core, after: -1, limit: limit}
		if cmd.Flags().Changed("after") {
			s.after = after
		}
		if kind != "" {
			t, err := eventType(kind)
			if err != nil {
				return result{}, err
			}
			s.kind = t
		}
		show := a.eventPrinter(c.out)
		if follow {
			return result{}, s.follow(ctx, c, show)
		}
		return result{}, s.list(ctx, c, show)
	})
	f := cmd.Flags()
	f.BoolVarP(&follow, "follow", "f", false, "wait for further events, over breaks of the connection; without --after, from now on")
	f.Int64Var(&after, "after", 0, "only events after this sequence number; 0: from the first that is kept")
	f.StringVar(&core, "core", "", "only events of this core or client device")
	f.StringVar(&kind, "type", "", "only events of this type, such as core-created")
	return limited(cmd, &limit)
}

// list prints what is in the log.
func (s *subscription) list(ctx context.Context, c *client, show func(api.Event) error) error {
	n := 0
	first := given(max(s.after, 0))
	_, err := pages(s.limit, func(count *int, after *int64) ([]api.Event, int64, error) {
		if after == nil {
			after = first
		}
		l, err := get[api.EventList](c.ListEvents(ctx, &api.ListEventsParams{Count: count, After: after, Core: given(s.core), Type: s.kind}, s.kindOnly))
		for _, e := range l.Events {
			if err == nil && (s.limit == 0 || n < s.limit) {
				n++
				err = show(e)
			}
		}
		return l.Events, l.Pagination.LastEvaluated.Sequence, err
	})
	return err
}

// eventPrinter writes events one by one, so that a reader gets each at once: as
// lines of JSON, documents of YAML, or lines of a table.
func (a *app) eventPrinter(w io.Writer) func(api.Event) error {
	headed := false
	return func(e api.Event) error {
		var err error
		switch a.format {
		case "json":
			err = json.NewEncoder(w).Encode(e)
		case "yaml":
			if _, err = io.WriteString(w, "---\n"); err == nil {
				err = printYAML(w, e)
			}
		default:
			const line = "%-8v   %-24v   %-28v   %-16v   %v\n"
			if !headed {
				headed = true
				if _, err := fmt.Fprintf(w, line, "SEQUENCE", "TIME", "TYPE", "CORE", "DETAIL"); err != nil {
					return fmt.Errorf("printing an event: %w", err)
				}
			}
			_, err = fmt.Fprintf(w, line, e.Sequence, e.Time.String(), e.DetailType, e.Core, detailText(e))
		}
		if err != nil {
			return fmt.Errorf("printing an event: %w", err)
		}
		return nil
	}
}

// detailText is an event's detail as words, without what stands beside it.
func detailText(e api.Event) string {
	var members map[string]any
	if err := json.Unmarshal(e.Detail, &members); err != nil {
		return string(e.Detail)
	}
	rank := func(name string) int { return slices.Index([]string{"message", "status"}, name) }
	names := slices.SortedFunc(maps.Keys(members), func(a, b string) int { // status and message first
		return cmp.Or(rank(b)-rank(a), strings.Compare(a, b))
	})
	var words []string
	for _, n := range names {
		if v := fmt.Sprint(members[n]); v != e.Core {
			words = append(words, n+"="+v)
		}
	}
	return strings.Join(words, " ")
}
