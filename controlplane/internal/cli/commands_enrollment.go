package cli

import (
	"context"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/ggfleet/ggfleet/controlplane/api"
)

func (a *app) enrollment() *cobra.Command {
	return group("enrollment", "Devices that ask to be let in, and who decides about them",
		a.enrollmentList(),
		a.command("show ID", "Show a device that asks", cobra.ExactArgs(1), func(ctx context.Context, c *client, args []string) (result, error) {
			return request(get[api.EnrollmentRequest](c.GetEnrollmentRequest(ctx, args[0])))
		}),
		a.enrollmentApprove(), a.enrollmentDeny(),
		a.command("forget ID", "Forget a request; a device that still wants in asks anew", cobra.ExactArgs(1), func(ctx context.Context, c *client, args []string) (result, error) {
			return result{}, done(c.DeleteEnrollmentRequest(ctx, args[0]))
		}),
		a.enrollmentRule(),
	)
}

func (a *app) enrollmentList() *cobra.Command {
	var status, name string
	var limit int
	cmd := a.command("list", "List the devices that ask to be let in", cobra.NoArgs, func(ctx context.Context, c *client, _ []string) (result, error) {
		all, err := pages(limit, func(count *int, after *string) ([]api.EnrollmentRequest, string, error) {
			l, err := get[api.EnrollmentRequestList](c.ListEnrollmentRequests(ctx, &api.ListEnrollmentRequestsParams{
				Status: given(api.EnrollmentStatus(status)), Name: given(name), Count: count, ExclusiveStartToken: after,
			}))
			return l.Requests, l.Pagination.LastEvaluated.NextToken, err
		})
		if err != nil {
			return result{}, err
		}
		return requests(api.EnrollmentRequestList{Requests: all}, all...), nil
	})
	cmd.Flags().StringVar(&status, "status", "", "only those that are waiting, approved, denied, enrolled or replaced")
	cmd.Flags().StringVar(&name, "name", "", "only those for this core or client device")
	return limited(cmd, &limit)
}

// creation is how a core or client device is made that does not exist.
type creation struct {
	template, version, generator, overlay, core string
	parameters                                  []string
}

func (n *creation) flags(f *pflag.FlagSet) {
	f.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName { // the names of before
		switch name {
		case "config-generator", "config-overlay":
			name = strings.TrimPrefix(name, "config-")
		}
		return pflag.NormalizedName(name)
	})
	f.StringVar(&n.template, "template", "", "provisioning template for one that does not exist (default: device-key, for client devices client-key)")
	f.StringArrayVar(&n.parameters, "parameter", nil, "NAME=VALUE of the template; may be repeated")
	f.StringVar(&n.version, "core-version", "", "version of the nucleus (default: of the one that agents are offered)")
	f.StringVar(&n.generator, "generator", "", "generator of the installer configuration, such as MANUAL_INSTALL (default: none is made)")
	f.StringVar(&n.overlay, "overlay", "", "JSON file merged into the installer configuration; - for standard input")
	f.StringVar(&n.core, "core", "", "core that a client device belongs to")
}

func (n *creation) body() (api.EnrollmentCreation, error) {
	out := api.EnrollmentCreation{ProvisioningTemplate: n.template, CoreVersion: n.version, ConfigFileGenerator: n.generator, CoreName: n.core}
	var err error
	if len(n.parameters) > 0 {
		if out.ProvisioningParameters, err = pairs("--parameter", n.parameters); err != nil {
			return out, err
		}
	}
	if n.overlay != "" {
		out.ConfigOverlay, err = jsonFile("--overlay", n.overlay)
	}
	return out, err
}

func (a *app) enrollmentApprove() *cobra.Command {
	var name, reason string
	var n creation
	cmd := a.command("approve ID", "Let a device in; a core or client device that does not exist is created", cobra.ExactArgs(1), func(ctx context.Context, c *client, args []string) (result, error) {
		how, err := n.body()
		if err != nil {
			return result{}, err
		}
		b, err := body(api.EnrollmentApproval{
			Name: name, Reason: reason, ProvisioningTemplate: how.ProvisioningTemplate, ProvisioningParameters: how.ProvisioningParameters,
			CoreVersion: how.CoreVersion, ConfigFileGenerator: how.ConfigFileGenerator, ConfigOverlay: how.ConfigOverlay, CoreName: how.CoreName,
		})
		if err != nil {
			return result{}, err
		}
		return request(get[api.EnrollmentRequest](c.ApproveEnrollmentRequestWithBody(ctx, args[0], api.MediaType, b)))
	})
	cmd.Flags().StringVar(&name, "name", "", "core or client device that it is, when it gave no name")
	cmd.Flags().StringVar(&reason, "reason", "", "for whoever looks at it later")
	n.flags(cmd.Flags())
	return cmd
}

func (a *app) enrollmentDeny() *cobra.Command {
	var reason string
	cmd := a.command("deny ID", "Keep a device out; an agent that is in already is revoked", cobra.ExactArgs(1), func(ctx context.Context, c *client, args []string) (result, error) {
		b, err := body(api.EnrollmentDenial{Reason: reason})
		if err != nil {
			return result{}, err
		}
		return request(get[api.EnrollmentRequest](c.DenyEnrollmentRequestWithBody(ctx, args[0], api.MediaType, b)))
	})
	cmd.Flags().StringVar(&reason, "reason", "", "for whoever looks at it later")
	return cmd
}

func (a *app) enrollmentRule() *cobra.Command {
	return group("rule", "Rules about devices that come with a claim certificate or with nothing",
		a.command("list", "List the rules, in the order in which they are asked", cobra.NoArgs, func(ctx context.Context, c *client, _ []string) (result, error) {
			l, err := get[api.EnrollmentRuleList](c.ListEnrollmentRules(ctx))
			if err != nil {
				return result{}, err
			}
			return rules(l, l.Rules...), nil
		}),
		a.command("show NAME", "Show a rule", cobra.ExactArgs(1), func(ctx context.Context, c *client, args []string) (result, error) {
			return rule(get[api.EnrollmentRule](c.GetEnrollmentRule(ctx, args[0])))
		}),
		a.enrollmentRulePut(),
		a.conditional(a.command("serials NAME FILE", "Give a rule its list of serials: one a line, and after a comma the device's name; - for standard input", cobra.ExactArgs(2), func(ctx context.Context, c *client, args []string) (result, error) {
			list, err := contents(args[1])
			if err != nil {
				return result{}, err
			}
			b, err := body(api.EnrollmentSerials{List: string(list)})
			if err != nil {
				return result{}, err
			}
			return rule(get[api.EnrollmentRule](c.PutEnrollmentSerialsWithBody(ctx, args[0], nil, api.MediaType, b)))
		})),
		a.conditional(a.command("delete NAME", "Delete a rule with its list of serials", cobra.ExactArgs(1), func(ctx context.Context, c *client, args []string) (result, error) {
			return result{}, done(c.DeleteEnrollmentRule(ctx, args[0], nil))
		})),
	)
}

func (a *app) enrollmentRulePut() *cobra.Command {
	var n creation
	r := api.NewEnrollmentRule{}
	var action string
	var roles, ways []string
	cmd := a.command("put NAME", "Make or replace a rule; of the conditions all that are given must hold", cobra.ExactArgs(1), func(ctx context.Context, c *client, args []string) (result, error) {
		r.Action, r.Roles, r.Ways = api.EnrollmentAction(action), nil, nil
		for _, x := range roles {
			r.Roles = append(r.Roles, api.AgentRole(x))
		}
		for _, x := range ways {
			r.Ways = append(r.Ways, api.EnrollmentRuleWay(x))
		}
		var err error
		if r.Create, err = n.body(); err != nil {
			return result{}, err
		}
		b, err := body(r)
		if err != nil {
			return result{}, err
		}
		return rule(get[api.EnrollmentRule](c.PutEnrollmentRuleWithBody(ctx, args[0], nil, api.MediaType, b)))
	})
	f := cmd.Flags()
	f.StringVar(&action, "action", "", "approve, deny or wait")
	_ = cmd.MarkFlagRequired("action")
	f.IntVar(&r.Priority, "priority", 0, "the rule with the lowest is asked first (default 100)")
	f.StringVar(&r.Description, "description", "", "for whoever reads it")
	f.StringArrayVar(&r.Names, "name", nil, "name that a device asks for: a glob of * ? [a-z], or re: and an RE2 expression; may be repeated")
	f.StringArrayVar(&r.Networks, "network", nil, "network that a device asks from, such as 10.20.0.0/16; may be repeated")
	f.BoolVar(&r.Serials, "serials", false, "the device's serial must be in the rule's list")
	f.StringArrayVar(&roles, "role", nil, "core or client (default: both)")
	f.StringArrayVar(&ways, "way", nil, "claim or none: what the device presents (default: both)")
	n.flags(f)
	return a.conditional(cmd)
}

func request(q api.EnrollmentRequest, err error) (result, error) {
	if err != nil {
		return result{}, err
	}
	return requests(q, q), nil
}

func requests(value any, qs ...api.EnrollmentRequest) result {
	r := result{value: value, header: []string{"ID", "NAME", "ROLE", "SERIAL", "PLATFORM", "ADDRESS", "WAY", "STATUS", "LAST ASKED", "MESSAGE"}}
	for _, q := range qs {
		r.rows = append(r.rows, []any{q.RequestID, q.Name, q.Role, q.Serial, q.Platform, q.Address, q.Way, q.Status, q.LastAsked.String(), q.Message})
	}
	return r
}

func rule(x api.EnrollmentRule, err error) (result, error) {
	if err != nil {
		return result{}, err
	}
	return rules(x, x), nil
}

func rules(value any, rs ...api.EnrollmentRule) result {
	r := result{value: value, header: []string{"NAME", "PRIORITY", "ACTION", "NAMES", "NETWORKS", "SERIALS", "ROLES", "WAYS", "VERSION"}}
	for _, x := range rs {
		serials := any("")
		if x.Serials || x.SerialCount > 0 {
			serials = x.SerialCount
		}
		r.rows = append(r.rows, []any{x.Name, x.Priority, x.Action, strings.Join(x.Names, " "), strings.Join(x.Networks, " "), serials, words(x.Roles), words(x.Ways), x.Version})
	}
	return r
}

func words[T ~string](list []T) string {
	out := make([]string, len(list))
	for i, x := range list {
		out[i] = string(x)
	}
	return strings.Join(out, " ")
}
