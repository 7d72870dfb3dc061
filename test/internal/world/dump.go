package world

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"
)

// Record is one record of the store, as `ggfleet debug dump` prints it.
type Record struct {
	Key      string          `json:"key"`
	Revision int64           `json:"revision"`
	Value    json.RawMessage `json:"value"`
}

// Dump reads the store of record, in key order. An embedded one must be stopped
// first.
func (w *World) Dump(t testing.TB) []Record {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), w.bin, append([]string{"debug", "dump", "--data-dir", w.Dir}, w.opts.Flags...)...)
	cmd.Env = environment(w.opts.Env)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	require.NoError(t, err, errs.String())
	var all []Record
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var r Record
		err := d.Decode(&r)
		if errors.Is(err, io.EOF) {
			return all
		}
		require.NoError(t, err)
		all = append(all, r)
	}
}
