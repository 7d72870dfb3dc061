package cli

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"

	"github.com/spf13/cobra"

	"github.com/ggfleet/ggfleet/controlplane/api"
)

func (a *app) nucleus() *cobra.Command {
	var format, platform string
	var activate bool
	importCmd := a.command("import [NAME VERSION] ARCHIVE", "Upload a nucleus archive; name and version are found in it", cobra.RangeArgs(1, 3), func(ctx context.Context, c *client, args []string) (result, error) {
		path := args[len(args)-1]
		f, err := input(path)
		if err != nil {
			return result{}, err
		}
		defer f.Close()
		archive := bufio.NewReader(f)
		how := format
		if how == "" {
			if how, err = archiveFormat(archive, path); err != nil {
				return result{}, err
			}
		}
		var d api.Distribution
		switch len(args) {
		case 1:
			d, err = get[api.Distribution](c.ImportDistributionWithBody(ctx, &api.ImportDistributionParams{Format: api.ImportDistributionParamsFormat(how), Platform: platform}, "application/octet-stream", archive))
		case 3:
			d, err = get[api.Distribution](c.PutDistributionWithBody(ctx, args[0], args[1], &api.PutDistributionParams{Format: api.PutDistributionParamsFormat(how), Platform: platform}, "application/octet-stream", archive))
		default:
			return result{}, failure(ExitUsage, "give the archive, or its name, version and the archive")
		}
		if err == nil && activate {
			d, err = get[api.Distribution](c.ActivateDistribution(ctx, d.Name, d.Version, &api.ActivateDistributionParams{Platform: d.Platform}))
		}
		if err != nil {
			return result{}, err
		}
		return distributions(d), nil
	})
	importCmd.Flags().StringVar(&format, "format", "", "tar.gz, zip, deb or rpm (default: what the first bytes say)")
	importCmd.Flags().StringVar(&platform, "platform", "", "what it is built for, as linux/arm64 (default: what a package says, else any)")
	importCmd.Flags().BoolVar(&activate, "activate", false, "offer it to agents at once")
	activateCmd := a.command("activate NAME VERSION", "Offer an archive to agents", cobra.ExactArgs(2), func(ctx context.Context, c *client, args []string) (result, error) {
		d, err := get[api.Distribution](c.ActivateDistribution(ctx, args[0], args[1], &api.ActivateDistributionParams{Platform: platform}))
		if err != nil {
			return result{}, err
		}
		return distributions(d), nil
	})
	activateCmd.Flags().StringVar(&platform, "platform", "", "only the archive that is built for it")
	pinCmd := a.command("pin CORE NAME VERSION", "Offer one core this version whatever is current", cobra.ExactArgs(3), func(ctx context.Context, c *client, args []string) (result, error) {
		return result{}, done(c.PutNucleusPinWithApplicationVndAwsCdfV10PlusJSONBody(ctx, args[0], api.NucleusPin{Name: args[1], Version: args[2]}))
	})
	unpinCmd := a.command("unpin CORE", "Offer a core what is current again", cobra.ExactArgs(1), func(ctx context.Context, c *client, args []string) (result, error) {
		return result{}, done(c.DeleteNucleusPin(ctx, args[0]))
	})
	return group("nucleus", "Keep the nucleus archives that agents are offered", importCmd,
		a.command("list", "List nucleus archives", cobra.NoArgs, func(ctx context.Context, c *client, _ []string) (result, error) {
			l, err := get[api.DistributionList](c.ListDistributions(ctx))
			if err != nil {
				return result{}, err
			}
			r := distributions(l.Distributions...)
			r.value = l
			return r, nil
		}),
		activateCmd, pinCmd, unpinCmd,
	)
}

// archiveFormat tells the formats apart by their first bytes and consumes none.
func archiveFormat(r *bufio.Reader, path string) (string, error) {
	magic, err := r.Peek(4)
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		return "tar.gz", nil
	case bytes.Equal(magic, []byte("PK\x03\x04")):
		return "zip", nil
	case bytes.HasPrefix(magic, []byte("!<ar")):
		return "deb", nil
	case bytes.Equal(magic, []byte("\xed\xab\xee\xdb")):
		return "rpm", nil
	case err != nil && !errors.Is(err, io.EOF):
		return "", failure(ExitUsage, "reading %s: %w", path, err)
	}
	return "", failure(ExitUsage, "%s is neither a tar.gz, a zip, a deb nor an rpm; give a distribution of the nucleus", path)
}

func distributions(ds ...api.Distribution) result {
	r := result{value: ds, header: []string{"NAME", "VERSION", "RUNTIME", "PLATFORM", "FORMAT", "BYTES", "CURRENT", "SHA-256"}}
	if len(ds) == 1 {
		r.value = ds[0]
	}
	for _, d := range ds {
		r.rows = append(r.rows, []any{d.Name, d.Version, d.Runtime, cmp.Or(d.Platform, "any"), d.Format, d.Size, d.Current, d.Digest})
	}
	return r
}
