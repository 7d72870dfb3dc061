package cli

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"

	"github.com/spf13/cobra"

	"github.com/ggfleet/ggfleet/controlplane/api"
)

func (a *app) nucleus() *cobra.Command {
	var format string
	var activate bool
	importCmd := a.command("import NAME VERSION ARCHIVE", "Upload a nucleus archive", cobra.ExactArgs(3), func(ctx context.Context, c *client, args []string) (result, error) {
		f, err := input(args[2])
		if err != nil {
			return result{}, err
		}
		defer f.Close()
		archive := bufio.NewReader(f)
		how := format
		if how == "" {
			if how, err = archiveFormat(archive, args[2]); err != nil {
				return result{}, err
			}
		}
		d, err := get[api.Distribution](c.PutDistributionWithBody(ctx, args[0], args[1], &api.PutDistributionParams{Format: api.PutDistributionParamsFormat(how)}, "application/octet-stream", archive))
		if err == nil && activate {
			d, err = get[api.Distribution](c.ActivateDistribution(ctx, args[0], args[1], nil))
		}
		if err != nil {
			return result{}, err
		}
		return distributions(d), nil
	})
	importCmd.Flags().StringVar(&format, "format", "", "tar.gz or zip (default: what the first bytes say)")
	importCmd.Flags().BoolVar(&activate, "activate", false, "offer it to agents at once")
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
		a.command("activate NAME VERSION", "Offer an archive to agents", cobra.ExactArgs(2), func(ctx context.Context, c *client, args []string) (result, error) {
			d, err := get[api.Distribution](c.ActivateDistribution(ctx, args[0], args[1], nil))
			if err != nil {
				return result{}, err
			}
			return distributions(d), nil
		}),
	)
}

// archiveFormat tells the two formats apart by their first bytes and consumes none.
func archiveFormat(r *bufio.Reader, path string) (string, error) {
	magic, err := r.Peek(4)
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		return "tar.gz", nil
	case bytes.Equal(magic, []byte("PK\x03\x04")):
		return "zip", nil
	case err != nil && !errors.Is(err, io.EOF):
		return "", failure(ExitUsage, "reading %s: %w", path, err)
	}
	return "", failure(ExitUsage, "%s is neither a tar.gz nor a zip; give an archive with distribution.json at its top", path)
}

func distributions(ds ...api.Distribution) result {
	r := result{value: ds, header: []string{"NAME", "VERSION", "FORMAT", "BYTES", "CURRENT", "SHA-256"}}
	if len(ds) == 1 {
		r.value = ds[0]
	}
	for _, d := range ds {
		r.rows = append(r.rows, []any{d.Name, d.Version, d.Format, d.Size, d.Current, d.Digest})
	}
	return r
}
