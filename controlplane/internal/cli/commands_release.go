package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ggfleet/ggfleet/controlplane/api"
	"github.com/ggfleet/ggfleet/installer/signed"
)

func (a *app) agentRelease() *cobra.Command {
	return group("agent-release", "Releases of the agent, and which devices are offered them",
		releaseKeygen(), releaseSign(), a.releaseAdd(),
		a.command("list", "List releases, latest first", cobra.NoArgs, func(ctx context.Context, c *client, _ []string) (result, error) {
			l, err := get[api.AgentReleaseList](c.ListAgentReleases(ctx))
			if err != nil {
				return result{}, err
			}
			return releases(l, l.Releases...), nil
		}),
		a.releaseActivate(),
		a.posting(a.command("pause VERSION", "Offer a release to nobody until it is activated again", cobra.ExactArgs(1), func(ctx context.Context, c *client, args []string) (result, error) {
			return release(get[api.AgentRelease](c.PauseAgentRelease(ctx, args[0], nil)))
		})),
		a.releaseStatus(),
		a.command("remove VERSION", "Delete a release that is not offered", cobra.ExactArgs(1), func(ctx context.Context, c *client, args []string) (result, error) {
			return result{}, done(c.DeleteAgentRelease(ctx, args[0]))
		}),
	)
}

func (a *app) releaseAdd() *cobra.Command {
	cmd := a.command("add VERSION PATH...", "Upload the files of a release", cobra.MinimumNArgs(2), func(ctx context.Context, c *client, args []string) (result, error) {
		files, err := filesOf(args[1:])
		if err != nil {
			return result{}, err
		}
		stem := signed.Program + "_" + args[0] + "_"
		if !slices.ContainsFunc(files, func(f string) bool { return strings.HasPrefix(filepath.Base(f), stem) }) {
			return result{}, failure(ExitUsage, "no file is of release %s; its binaries are named %sGOOS_GOARCH, such as %[2]slinux_amd64", args[0], stem)
		}
		for _, name := range files {
			if err := upload(ctx, c, args[0], name); err != nil {
				return result{}, err
			}
		}
		return release(get[api.AgentRelease](c.GetAgentRelease(ctx, args[0])))
	})
	cmd.Long = `Uploads the files of a release, or all files of a folder such as dist/. Binaries are
named ggfleet-agent_VERSION_GOOS_GOARCH; the signature of each lies beside it with
.minisig at its end. Done again, it uploads what is missing.`
	return cmd
}

// filesOf returns the files that the paths name, of a folder all that lie in it.
func filesOf(paths []string) (files []string, err error) {
	for _, p := range paths {
		info, err := os.Stat(p)
		if err != nil {
			return nil, failure(ExitUsage, "%w", err)
		}
		if !info.IsDir() {
			files = append(files, p)
			continue
		}
		entries, err := os.ReadDir(p)
		if err != nil {
			return nil, failure(ExitUsage, "%w", err)
		}
		for _, e := range entries {
			if e.Type().IsRegular() {
				files = append(files, filepath.Join(p, e.Name()))
			}
		}
	}
	// A signature is checked against its binary when it comes: binaries first.
	slices.SortStableFunc(files, func(a, b string) int {
		return boolInt(strings.HasSuffix(a, signatureSuffix)) - boolInt(strings.HasSuffix(b, signatureSuffix))
	})
	return files, nil
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

func upload(ctx context.Context, c *client, version, name string) error {
	f, err := os.Open(name)
	if err != nil {
		return failure(ExitUsage, "%w", err)
	}
	defer f.Close() //nolint:errcheck // read only
	_, err = get[api.AgentReleaseFile](c.PutAgentReleaseFileWithBody(ctx, version, filepath.Base(name), "application/octet-stream", f))
	return err
}

func (a *app) releaseActivate() *cobra.Command {
	var percentage float64
	var pattern string
	var failures int
	var spread string
	cmd := a.command("activate VERSION", "Offer a release to devices, or change to whom", cobra.ExactArgs(1), nil)
	cmd.RunE = a.command("", "", nil, func(ctx context.Context, c *client, args []string) (result, error) {
		in := api.AgentReleaseActivation{Percentage: percentage, NamePattern: pattern, MaxFailures: failures}
		if cmd.Flags().Changed("spread") {
			d, err := seconds(spread)
			if err != nil {
				return result{}, failure(ExitUsage, "--spread: %w", err)
			}
			in.SpreadSeconds = &d
		}
		b, err := body(in)
		if err != nil {
			return result{}, err
		}
		return release(get[api.AgentRelease](c.ActivateAgentReleaseWithBody(ctx, args[0], nil, api.MediaType, b)))
	}).RunE
	f := cmd.Flags()
	f.Float64Var(&percentage, "percentage", 100, "of devices that are offered it; who is in stays in while it grows")
	f.StringVar(&pattern, "name-pattern", "", "of devices, with * and ? (default: all)")
	f.IntVar(&failures, "max-failures", 5, "devices that fail until it stops by itself")
	f.StringVar(&spread, "spread", "10m", "in which the share grows to the percentage; 0s: at once")
	return a.posting(cmd)
}

func (a *app) releaseStatus() *cobra.Command {
	var state string
	var limit int
	cmd := a.command("status VERSION", "Say what became of a release, device by device", cobra.ExactArgs(1), func(ctx context.Context, c *client, args []string) (result, error) {
		all, err := pages(limit, func(count *int, after *string) ([]api.AgentReleaseDevice, string, error) {
			l, err := get[api.AgentReleaseDeviceList](c.ListAgentReleaseDevices(ctx, args[0], &api.ListAgentReleaseDevicesParams{
				State: given(api.ListAgentReleaseDevicesParamsState(state)), Count: count, ExclusiveStartName: after,
			}))
			return l.Devices, l.Pagination.LastEvaluated.Name, err
		})
		if err != nil {
			return result{}, err
		}
		if len(all) == 0 { // of a release that is there?
			if err := done(c.GetAgentRelease(ctx, args[0])); err != nil {
				return result{}, err
			}
		}
		r := result{value: api.AgentReleaseDeviceList{Devices: all}, header: []string{"DEVICE", "PLATFORM", "RUNS", "UPDATE", "STATE", "SINCE", "REASON"}}
		for _, d := range all {
			r.rows = append(r.rows, []any{d.Name, d.Platform, d.Version, d.UpdateVersion, d.UpdateState, d.At, d.Reason})
		}
		return r, nil
	})
	cmd.Flags().StringVar(&state, "state", "", "only devices whose last update is downloading, blocked, trial, waiting, refused, failed or committed")
	return limited(cmd, &limit)
}

func release(r api.AgentRelease, err error) (result, error) {
	if err != nil {
		return result{}, err
	}
	return releases(r, r), nil
}

func releases(value any, list ...api.AgentRelease) result {
	r := result{value: value, header: []string{"VERSION", "STATE", "SHARE", "OF", "RUNNING", "TRIAL", "FAILED", "PLATFORMS", "REASON"}}
	for _, l := range list {
		var platforms []string
		for _, p := range l.Platforms {
			if p.KeyID == "" {
				p.Platform += " (unsigned)"
			}
			platforms = append(platforms, p.Platform)
		}
		r.rows = append(r.rows, []any{
			l.Version, l.State, fmt.Sprintf("%g%%", l.Share), fmt.Sprintf("%g%%", l.Percentage), l.Running, l.Updates["trial"] + l.Updates["waiting"],
			l.Updates["failed"] + l.Updates["refused"], strings.Join(platforms, ", "), l.Reason,
		})
	}
	return r
}
