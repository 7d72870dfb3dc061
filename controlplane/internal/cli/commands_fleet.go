package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ggfleet/ggfleet/controlplane/api"
)

func (a *app) fleet() *cobra.Command {
	return group("fleet", "Show what runs where", a.command("summary", "Count cores by template version, and agents by what they report", cobra.NoArgs, func(ctx context.Context, c *client, _ []string) (result, error) {
		s, err := get[api.FleetSummary](c.GetFleetSummary(ctx))
		if err != nil {
			return result{}, err
		}
		r := result{value: s, header: []string{"TEMPLATE", "VERSION", "DESIRED", "REPORTED", "SUCCESS", "FAILED", "IN PROGRESS"}}
		for _, name := range slices.Sorted(maps.Keys(s.Templates)) {
			rows := s.Templates[name].Versions
			versions := slices.SortedFunc(maps.Keys(rows), func(a, b string) int { // numbers as text: 2 before 10
				if len(a) != len(b) {
					return len(a) - len(b)
				}
				return strings.Compare(a, b)
			})
			for _, v := range versions {
				n := rows[v]
				r.rows = append(r.rows, []any{name, v, n.DesiredInUse, n.ReportedInUse, n.LastDeploymentSuccess, n.LastDeploymentFailed, n.LastDeploymentInProgress})
			}
		}
		r.line = agentCounts(s.Agents)
		return r, nil
	}))
}

// agentCounts says how agents are, and nothing while none reported.
func agentCounts(a api.AgentSummary) string {
	if a.Connected+a.Offline == 0 {
		return ""
	}
	s := fmt.Sprintf("Agents: %d connected, %d offline", a.Connected, a.Offline)
	for _, w := range slices.Sorted(maps.Keys(a.Warnings)) {
		if n := a.Warnings[w]; n > 0 {
			s += fmt.Sprintf(", %s %d", w, n)
		}
	}
	return s
}

func (a *app) activation() *cobra.Command {
	var valid time.Duration
	var limit int
	var role string
	create := a.command("create DEVICE", "Let a device enrol; prints the enrolment string", cobra.ExactArgs(1), func(ctx context.Context, c *client, args []string) (result, error) {
		if valid < time.Second || valid%time.Second != 0 {
			return result{}, failure(ExitUsage, "--valid-for: %s is not a duration of whole seconds, 1s or more", valid)
		}
		if limit < 1 {
			return result{}, failure(ExitUsage, "--registrations: is %d, want 1 or more", limit)
		}
		b, err := body(api.NewActivation{DeviceID: args[0], ExpiresInSeconds: int(valid.Seconds()), RegistrationLimit: limit, Role: api.AgentRole(role)})
		if err != nil {
			return result{}, err
		}
		v, err := get[api.IssuedActivation](c.CreateActivationWithBody(ctx, nil, api.MediaType, b))
		if err != nil {
			return result{}, err
		}
		warnUnknown(ctx, c, args[0])
		return result{value: v, line: v.Enrollment, vars: [][2]string{{"GGFLEET_ENROLLMENT", v.Enrollment}, {"GGFLEET_ACTIVATION_ID", v.ActivationID}}}, nil
	})
	create.Flags().DurationVar(&valid, "valid-for", 24*time.Hour, "how long it can be used")
	create.Flags().IntVar(&limit, "registrations", 1, "how often it can be used")
	create.Flags().StringVar(&role, "role", "", "core or client: refuse a device that is the other (default: whatever it is)")
	return group("activation", "Let devices enrol", a.posting(create),
		a.command("get ID", "Show an activation", cobra.ExactArgs(1), func(ctx context.Context, c *client, args []string) (result, error) {
			v, err := get[api.Activation](c.GetActivation(ctx, args[0]))
			if err != nil {
				return result{}, err
			}
			return result{value: v, header: []string{"ID", "DEVICE", "ROLE", "USED", "EXPIRES"}, rows: [][]any{{v.ActivationID, v.DeviceID, v.Role, fmt.Sprintf("%d of %d", v.Registrations, v.RegistrationLimit), v.ExpiresAt.String()}}}, nil
		}),
		a.command("delete ID", "Withdraw an activation", cobra.ExactArgs(1), func(ctx context.Context, c *client, args []string) (result, error) {
			return result{}, done(c.DeleteActivation(ctx, args[0]))
		}),
	)
}

// warnUnknown says on standard error that neither a core nor a client device has
// the name: it may come yet, or be a typing error that only the device would show.
func warnUnknown(ctx context.Context, c *client, name string) {
	for _, ask := range []func() error{
		func() error { return done(c.GetCore(ctx, name)) },
		func() error { return done(c.GetDevice(ctx, name)) },
	} {
		if ExitCode(ask()) != ExitNotFound {
			return
		}
	}
	fmt.Fprintf(c.log, "warning: there is no core or client device %s yet; the device is refused until there is, by \"ggfleet core create\" or \"ggfleet device create\"\n", name)
}
