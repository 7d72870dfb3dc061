package cli

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ggfleet/ggfleet/controlplane/api"
)

func (a *app) webhook() *cobra.Command {
	return group("webhook", "Have events sent to a URL",
		a.webhookCreate(), a.webhookUpdate(),
		a.command("list", "List webhooks", cobra.NoArgs, func(ctx context.Context, c *client, _ []string) (result, error) {
			l, err := get[api.WebhookList](c.ListWebhooks(ctx))
			if err != nil {
				return result{}, err
			}
			return webhooks(l, l.Webhooks...), nil
		}),
		a.command("get ID", "Show a webhook", cobra.ExactArgs(1), func(ctx context.Context, c *client, args []string) (result, error) {
			w, err := get[api.Webhook](c.GetWebhook(ctx, args[0]))
			if err != nil {
				return result{}, err
			}
			return webhooks(w, w), nil
		}),
		a.conditional(a.command("delete ID", "Delete a webhook with its dead letters", cobra.ExactArgs(1), func(ctx context.Context, c *client, args []string) (result, error) {
			return result{}, done(c.DeleteWebhook(ctx, args[0], nil))
		})),
		a.webhookDeadLetters(), a.webhookReplay(),
	)
}

// secretFile reads the key of signatures from a file; nil when none is named.
func secretFile(path string) (*string, error) {
	if path == "" {
		return nil, nil
	}
	b, err := contents(path)
	if err != nil {
		return nil, err
	}
	return given(strings.TrimSpace(string(b))), nil
}

func types(texts []string) ([]api.EventType, error) {
	out := []api.EventType{}
	for _, text := range texts {
		t, err := eventType(text)
		if err != nil {
			return nil, err
		}
		out = append(out, t)
	}
	return out, nil
}

func (a *app) webhookCreate() *cobra.Command {
	var only []string
	var secret string
	var paused bool
	cmd := a.command("create URL", "Have events sent to a URL; prints the key of the signature, this once", cobra.ExactArgs(1), func(ctx context.Context, c *client, args []string) (result, error) {
		n := api.NewWebhook{URL: args[0]}
		var err error
		if n.Types, err = types(only); err != nil {
			return result{}, err
		}
		if paused {
			n.Active = new(bool)
		}
		key, err := secretFile(secret)
		if err != nil {
			return result{}, err
		}
		if key != nil {
			n.Secret = *key
		}
		b, err := body(n)
		if err != nil {
			return result{}, err
		}
		w, err := get[api.Webhook](c.CreateWebhookWithBody(ctx, nil, api.MediaType, b))
		if err != nil {
			return result{}, err
		}
		return result{value: w, header: []string{"ID", "URL", "SECRET"}, rows: [][]any{{w.ID, w.URL, w.Secret}}, vars: [][2]string{{"GGFLEET_WEBHOOK_ID", w.ID}, {"GGFLEET_WEBHOOK_SECRET", w.Secret}}}, nil
	})
	f := cmd.Flags()
	f.StringArrayVar(&only, "type", nil, "send events of this type, such as core-created; may be repeated (default: all)")
	f.StringVar(&secret, "secret-file", "", "file with the key of the signature, 16 characters or more; - for standard input (default: one is made)")
	f.BoolVar(&paused, "paused", false, "send nothing yet")
	return a.posting(cmd)
}

func (a *app) webhookUpdate() *cobra.Command {
	var url, secret string
	var only []string
	var active bool
	var cmd *cobra.Command
	cmd = a.command("update ID", "Change a webhook, or let it rest", cobra.ExactArgs(1), func(ctx context.Context, c *client, args []string) (result, error) {
		n := api.WebhookChange{URL: given(url)}
		var err error
		if cmd.Flags().Changed("type") {
			ts, err := types(only)
			if err != nil {
				return result{}, err
			}
			n.Types = &ts
		}
		if cmd.Flags().Changed("active") {
			n.Active = &active
		}
		if n.Secret, err = secretFile(secret); err != nil {
			return result{}, err
		}
		b, err := body(n)
		if err != nil {
			return result{}, err
		}
		w, err := get[api.Webhook](c.UpdateWebhookWithBody(ctx, args[0], nil, api.MediaType, b))
		if err != nil {
			return result{}, err
		}
		return webhooks(w, w), nil
	})
	f := cmd.Flags()
	f.StringVar(&url, "url", "", "send to this URL")
	f.StringArrayVar(&only, "type", nil, "send events of these types only")
	f.StringVar(&secret, "secret-file", "", "file with a new key of the signature; - for standard input")
	f.BoolVar(&active, "active", false, "true: send, also when the server paused it; false: rest, and go on from there later")
	return a.conditional(cmd)
}

func webhooks(value any, ws ...api.Webhook) result {
	r := result{value: value, header: []string{"ID", "URL", "TYPES", "ACTIVE", "SEQUENCE", "LOST", "REASON"}}
	for _, w := range ws {
		kinds := "all"
		if len(w.Types) > 0 {
			var all []string
			for _, t := range w.Types {
				all = append(all, string(t))
			}
			kinds = strings.Join(all, ", ")
		}
		r.rows = append(r.rows, []any{w.ID, w.URL, kinds, w.Active, w.Sequence, w.Lost, w.Reason})
	}
	return r
}

func (a *app) webhookDeadLetters() *cobra.Command {
	var limit int
	return limited(a.command("dead-letters ID", "List the events that a webhook would not take", cobra.ExactArgs(1), func(ctx context.Context, c *client, args []string) (result, error) {
		all, err := pages(limit, func(count *int, after *int64) ([]api.DeadLetter, int64, error) {
			l, err := get[api.DeadLetterList](c.ListDeadLetters(ctx, args[0], &api.ListDeadLettersParams{Count: count, After: after}))
			return l.DeadLetters, l.Pagination.LastEvaluated.Sequence, err
		})
		if err != nil {
			return result{}, err
		}
		r := result{value: api.DeadLetterList{DeadLetters: all}, header: []string{"SEQUENCE", "TYPE", "CORE", "ATTEMPTS", "GIVEN UP", "REASON"}}
		for _, d := range all {
			r.rows = append(r.rows, []any{d.Event.Sequence, d.Event.DetailType, d.Event.Core, d.Attempts, d.At.String(), d.Reason})
		}
		return r, nil
	}), &limit)
}

func (a *app) webhookReplay() *cobra.Command {
	var from int64
	var dead bool
	cmd := a.command("replay ID", "Send events again: from one on, or the dead letters", cobra.ExactArgs(1), func(ctx context.Context, c *client, args []string) (result, error) {
		b, err := body(api.Replay{FromSequence: from, DeadLetters: dead})
		if err != nil {
			return result{}, err
		}
		return result{}, done(c.ReplayWebhookWithBody(ctx, args[0], nil, api.MediaType, b))
	})
	cmd.Flags().Int64Var(&from, "from", 0, "sequence number of the first event")
	cmd.Flags().BoolVar(&dead, "dead-letters", false, "the dead letters")
	cmd.MarkFlagsMutuallyExclusive("from", "dead-letters")
	cmd.MarkFlagsOneRequired("from", "dead-letters")
	return a.posting(cmd)
}
