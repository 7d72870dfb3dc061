package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ggfleet/ggfleet/controlplane/api"
)

func (a *app) thing() *cobra.Command {
	return group("thing", "Provision things that are no cores",
		a.thingProvision(), a.thingGet(), a.thingDelete(), a.thingCertificates(), a.thingBulk(), a.thingTask())
}

func (a *app) thingProvision() *cobra.Command {
	var p provision
	var dir string
	cmd := a.command("provision NAME", "Provision a thing; its private key is shown this once", cobra.ExactArgs(1), func(ctx context.Context, c *client, args []string) (result, error) {
		n := api.NewThing{ProvisioningTemplateID: p.template}
		var err error
		if n.Parameters, err = p.values(args[0]); err != nil {
			return result{}, err
		}
		if n.CdfProvisioningParameters, err = p.cdfParameters(); err != nil {
			return result{}, err
		}
		b, err := body(n)
		if err != nil {
			return result{}, err
		}
		var root *os.Root
		if dir != "" { // before a key is made that could not be kept
			if root, err = os.OpenRoot(dir); err != nil {
				return result{}, failure(ExitUsage, "--out: %w", err)
			}
			defer func() { _ = root.Close() }() // what was written is closed already
		}
		t, err := get[api.ProvisionedThing](c.CreateThingWithBody(ctx, nil, api.MediaType, b))
		if err != nil {
			return result{}, err
		}
		if root == nil {
			return result{value: t, line: strings.TrimSpace(strings.TrimSpace(t.CertificatePem) + "\n" + t.PrivateKey)}, nil
		}
		return keep(root, args[0], t)
	})
	p.flags(cmd.Flags(), "")
	cmd.Flags().StringVar(&dir, "out", "", "directory for NAME.cert.pem and NAME.private.key (default: print them)")
	return a.posting(cmd)
}

// keep writes certificate and key into files that nobody else can read.
func keep(dir *os.Root, name string, t api.ProvisionedThing) (result, error) {
	r := result{value: t, header: []string{"THING", "CERTIFICATE", "FILES"}}
	var files []string
	for _, f := range []struct{ suffix, text string }{{".cert.pem", t.CertificatePem}, {".private.key", t.PrivateKey}} {
		if f.text == "" {
			continue
		}
		path := strings.ReplaceAll(name, ":", "_") + f.suffix
		if err := dir.WriteFile(path, []byte(f.text), 0o600); err != nil {
			return result{value: t, line: t.CertificatePem + t.PrivateKey}, failure(ExitFailed, "the thing was made, but its key could not be kept: %w", err)
		}
		files = append(files, path)
	}
	r.rows = append(r.rows, []any{name, t.ResourceArns["certificate"], strings.Join(files, ", ")})
	return r, nil
}

func (a *app) thingGet() *cobra.Command {
	return a.command("get NAME", "Show a thing with its certificates, policies and groups", cobra.ExactArgs(1), func(ctx context.Context, c *client, args []string) (result, error) {
		t, err := get[api.Thing](c.GetThing(ctx, args[0]))
		if err != nil {
			return result{}, err
		}
		var certs, policies, groups []string
		for _, x := range t.Certificates {
			certs = append(certs, fmt.Sprintf("%.12s %s", x.CertificateID, x.CertificateStatus))
		}
		for _, x := range t.Policies {
			policies = append(policies, x.PolicyName)
		}
		for _, x := range t.Groups {
			groups = append(groups, x.GroupName)
		}
		return result{value: t, header: []string{"THING", "CERTIFICATES", "POLICIES", "GROUPS"}, rows: [][]any{{
			t.ThingName, strings.Join(certs, ", "), strings.Join(policies, ", "), strings.Join(groups, ", "),
		}}}, nil
	})
}

func (a *app) thingDelete() *cobra.Command {
	return a.command("delete NAME", "Delete a thing", cobra.ExactArgs(1), func(ctx context.Context, c *client, args []string) (result, error) {
		return result{}, done(c.DeleteThing(ctx, args[0]))
	})
}

func (a *app) thingCertificates() *cobra.Command {
	var status string
	cmd := a.command("certificates NAME", "Set the status of every certificate of a thing", cobra.ExactArgs(1), func(ctx context.Context, c *client, args []string) (result, error) {
		b, err := body(api.CertificateChange{CertificateStatus: api.CertificateChangeCertificateStatus(strings.ToUpper(status))})
		if err != nil {
			return result{}, err
		}
		return result{}, done(c.UpdateThingCertificatesWithBody(ctx, args[0], api.MediaType, b))
	})
	cmd.Flags().StringVar(&status, "status", "", "ACTIVE, INACTIVE or REVOKED; only an active one can connect")
	_ = cmd.MarkFlagRequired("status") // the flag is there
	return cmd
}

func (a *app) thingBulk() *cobra.Command {
	var p provision
	var path string
	var w waits
	cmd := a.command("bulk [NAME...]", "Provision many things, by their names or from a file of parameters", cobra.ArbitraryArgs, func(ctx context.Context, c *client, names []string) (result, error) {
		n := api.NewBulkThings{ProvisioningTemplateID: p.template}
		if path != "" {
			b, err := contents(path)
			if err != nil {
				return result{}, err
			}
			if err := json.Unmarshal(b, &n.Parameters); err != nil {
				return result{}, failure(ExitUsage, "%s: want a list of objects with the parameters of each thing: %w", path, err)
			}
		}
		for _, name := range names {
			v, err := p.values(name)
			if err != nil {
				return result{}, err
			}
			n.Parameters = append(n.Parameters, v)
		}
		if len(n.Parameters) == 0 {
			return result{}, failure(ExitUsage, "no thing is named; give names, or a file with -f")
		}
		b, err := body(n)
		if err != nil {
			return result{}, err
		}
		res, err := c.CreateBulkThingsWithBody(ctx, nil, api.MediaType, b)
		return w.begin(res, err, func(id string) (result, error) { return a.waitBulk(ctx, c, id) })
	})
	f := cmd.Flags()
	alias(f)
	f.StringVar(&p.template, "provisioning-template", "", "provisioning template, one without a CDF section; --template is the same")
	f.StringArrayVarP(&p.parameters, "parameter", "p", nil, "NAME=VALUE for each thing that is named; may be repeated")
	f.StringVarP(&path, "file", "f", "", "JSON: a list with an object of parameters for each thing; - for standard input")
	_ = cmd.MarkFlagRequired("provisioning-template") // the flag is there
	return a.waiting(cmd, &w)
}

func (a *app) thingTask() *cobra.Command {
	return a.command("task ID", "Show how far a bulk task is", cobra.ExactArgs(1), func(ctx context.Context, c *client, args []string) (result, error) {
		t, err := get[api.BulkThings](c.GetBulkThings(ctx, args[0]))
		if err != nil {
			return result{}, err
		}
		return bulkTask(t), nil
	})
}

func bulkTask(t api.BulkThings) result {
	return result{value: t, header: []string{"TASK", "STATUS", "SUCCESS", "FAILURE", "PERCENT"}, rows: [][]any{{t.TaskID, t.Status, t.SuccessCount, t.FailureCount, t.PercentageProgress}}}
}

func (a *app) waitBulk(ctx context.Context, c *client, id string) (result, error) {
	return a.await(ctx, c, "bulk task "+id, func() (look, error) {
		t, err := get[api.BulkThings](c.GetBulkThings(ctx, id))
		return look{
			result: bulkTask(t), text: fmt.Sprintf("%s, %d%%", t.Status, t.PercentageProgress),
			ended:  t.Status == api.BulkCompleted || t.Status == api.BulkFailed || t.Status == api.BulkCancelled,
			failed: t.Status != api.BulkCompleted || t.FailureCount > 0, message: fmt.Sprintf("%d of %d things failed", t.FailureCount, t.FailureCount+t.SuccessCount),
		}, err
	})
}
