package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/ggfleet/ggfleet/controlplane/api"
)

func (a *app) accessKey() *cobra.Command {
	var description, role string
	create := a.command("create", "Create an access key for the AWS endpoint; -o env prints shell variables", cobra.NoArgs, func(ctx context.Context, c *client, _ []string) (result, error) {
		b, err := body(api.NewAccessKey{Description: description, Role: api.AccessKeyRole(role)})
		if err != nil {
			return result{}, err
		}
		k, err := get[api.IssuedAccessKey](c.CreateAccessKeyWithBody(ctx, nil, api.MediaType, b))
		if err != nil {
			return result{}, err
		}
		return result{
			value: k, header: []string{"ACCESS KEY", "SECRET", "ROLE", "REGION", "ENDPOINT"}, rows: [][]any{{k.AccessKeyID, k.SecretAccessKey, k.Role, k.Region, k.EndpointURL}},
			vars: [][2]string{
				{"AWS_ACCESS_KEY_ID", k.AccessKeyID},
				{"AWS_SECRET_ACCESS_KEY", k.SecretAccessKey},
				{"AWS_DEFAULT_REGION", k.Region},
				{"AWS_REGION", k.Region},
				{"AWS_ENDPOINT_URL", k.EndpointURL},
			},
		}, nil
	})
	create.Flags().StringVar(&description, "description", "", "what it is for")
	create.Flags().StringVar(&role, "role", "admin", "viewer (reads, and does not open the bucket) or admin")
	return group("access-key", "Hand out access to the AWS endpoint", a.posting(create),
		a.command("list", "List access keys", cobra.NoArgs, func(ctx context.Context, c *client, _ []string) (result, error) {
			l, err := get[api.AccessKeyList](c.ListAccessKeys(ctx))
			if err != nil {
				return result{}, err
			}
			r := result{value: l, header: []string{"ACCESS KEY", "ROLE", "DESCRIPTION", "CREATED"}}
			for _, k := range l.AccessKeys {
				r.rows = append(r.rows, []any{k.AccessKeyID, k.Role, k.Description, k.CreatedAt.String()})
			}
			return r, nil
		}),
		a.command("delete ID", "Delete an access key", cobra.ExactArgs(1), func(ctx context.Context, c *client, args []string) (result, error) {
			return result{}, done(c.DeleteAccessKey(ctx, args[0]))
		}),
	)
}

func (a *app) tokens() *cobra.Command {
	var role string
	create := a.command("create NAME", "Create a token of the fleet API", cobra.ExactArgs(1), func(ctx context.Context, c *client, args []string) (result, error) {
		b, err := body(api.NewToken{Name: args[0], Role: api.Role(role)})
		if err != nil {
			return result{}, err
		}
		t, err := get[api.IssuedToken](c.CreateTokenWithBody(ctx, nil, api.MediaType, b))
		if err != nil {
			return result{}, err
		}
		return result{value: t, line: t.Token, vars: [][2]string{{"GGFLEET_TOKEN", t.Token}}}, nil
	})
	create.Flags().StringVar(&role, "role", "viewer", "viewer, operator or admin")
	return group("token", "Hand out access to the fleet API", a.posting(create),
		a.command("list", "List tokens", cobra.NoArgs, func(ctx context.Context, c *client, _ []string) (result, error) {
			l, err := get[api.TokenList](c.ListTokens(ctx))
			if err != nil {
				return result{}, err
			}
			r := result{value: l, header: []string{"NAME", "ROLE", "CREATED"}}
			for _, t := range l.Tokens {
				r.rows = append(r.rows, []any{t.Name, t.Role, t.CreatedAt.String()})
			}
			return r, nil
		}),
		a.command("delete NAME", "Delete a token", cobra.ExactArgs(1), func(ctx context.Context, c *client, args []string) (result, error) {
			return result{}, done(c.DeleteToken(ctx, args[0]))
		}),
	)
}

func (a *app) ca() *cobra.Command {
	return group("ca", "Show the certificate authorities", a.command("show", "Show the id and fingerprints of the CA, and the ARN of the private CA", cobra.NoArgs, func(ctx context.Context, c *client, _ []string) (result, error) {
		v, err := get[api.CA](c.GetCA(ctx))
		if err != nil {
			return result{}, err
		}
		// Everybody may know the CA, only those with a token what else there is.
		system, err := get[api.System](c.GetSystem(ctx))
		if err != nil && ExitCode(err) != ExitDenied {
			return result{}, err
		}
		vars := [][2]string{{"GGFLEET_CA_ID", v.CaID}}
		if system.PrivateCaArn != "" {
			vars = append(vars, [2]string{"GGFLEET_PRIVATE_CA_ARN", system.PrivateCaArn})
		}
		return result{
			value: struct {
				api.CA
				PrivateCaArn string `json:"privateCaArn,omitempty"`
			}{v, system.PrivateCaArn},
			header: []string{"CA ID", "ROOT SHA-256", "ISSUER SHA-256", "PRIVATE CA"},
			rows:   [][]any{{v.CaID, v.RootFingerprint, v.IssuerFingerprint, system.PrivateCaArn}}, vars: vars,
		}, nil
	}))
}
