package app

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/logx"
)

// DumpCommand returns `ggfleet debug`, which holds the diagnosis aids. They are
// no part of what a release promises, and hidden.
func DumpCommand(out io.Writer) *cobra.Command {
	dump := &cobra.Command{
		Use:   "dump",
		Short: "Print all records of the store of record",
		Long: "Print every key of the store of record with its revision and value, one JSON object a line, in key order.\n" +
			"Nothing is changed, and what is sealed stays sealed. The embedded store must not be in use: stop the server first.\n" +
			"It takes the settings of serve.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := Load(cmd.Flags())
			if err != nil {
				return err
			}
			return Dump(cmd.Context(), cfg, out)
		},
	}
	Flags(dump.Flags())
	c := &cobra.Command{Use: "debug", Short: "Look into a control plane", Hidden: true, Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	c.AddCommand(dump)
	return c
}

// dumped is one line of a dump.
type dumped struct {
	Key      string          `json:"key"`
	Revision state.Rev       `json:"revision"`
	Value    json.RawMessage `json:"value"`
}

// Dump writes all keys of the store that cfg names.
func Dump(ctx context.Context, cfg Config, out io.Writer) error {
	a := &App{cfg: cfg, log: logx.Discard()}
	defer a.Close()
	if len(cfg.EtcdEndpoints) == 0 {
		if _, err := os.Stat(filepath.Join(cfg.DataDir, "etcd")); err != nil {
			return fmt.Errorf("data directory %s holds no store of record: %w; name that of a server with --data-dir", cfg.DataDir, err)
		}
	}
	store, err := a.dialState(ctx)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(out)
	lines := json.NewEncoder(w)
	for after := ""; ; {
		p, err := store.List(ctx, state.Root, after, 1000)
		if err != nil {
			return fmt.Errorf("list records: %w", err)
		}
		for _, e := range p.Entries {
			line := dumped{Key: e.Key, Revision: e.Rev, Value: e.Value}
			if !json.Valid(e.Value) { // never ours; shown all the same
				if line.Value, err = json.Marshal(string(e.Value)); err != nil {
					return err
				}
			}
			if err := lines.Encode(line); err != nil {
				return err
			}
			after = e.Key
		}
		if !p.More {
			return w.Flush()
		}
	}
}
