package localstate_test

import (
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/agent/internal/localstate"
)

func TestADamagedRecordIsTakenFromItsCopy(t *testing.T) {
	const name = "who.json"
	type record struct{ Name string }
	tests := map[string]struct {
		spoil  func(t *testing.T, d *localstate.Dir)
		damage string // "" for none
		err    bool
		aside  string
	}{
		"nothing is wrong":         {func(*testing.T, *localstate.Dir) {}, "", false, ""},
		"it is garbage":            {spoil(name, "\x00{"), "is damaged", false, "\x00{"},
		"it is empty":              {spoil(name, ""), "is damaged", false, ""},
		"it is gone":               {lose(name), "no such file", false, ""},
		"its copy is garbage":      {spoil(name+localstate.CopySuffix, "x"), "", false, ""},
		"its copy is gone":         {lose(name + localstate.CopySuffix), "", false, ""},
		"both are garbage":         {both(spoil(name, "x"), spoil(name+localstate.CopySuffix, "y")), "", true, ""},
		"it is garbage, no copy":   {both(spoil(name, "x"), lose(name+localstate.CopySuffix)), "", true, ""},
		"it differs from its copy": {spoil(name, `{"Name":"b"}`), "", false, ""},
	}
	for title, tc := range tests {
		t.Run(title, func(t *testing.T) {
			d, err := localstate.Open(t.TempDir(), nil)
			require.NoError(t, err)
			defer d.Close()
			require.NoError(t, d.WriteKept(name, record{"a"}))
			tc.spoil(t, d)
			var got record
			open := func() error {
				got = record{}
				return d.ReadJSON(name, &got)
			}
			damage, err := d.Kept(name, open)
			if tc.err {
				require.ErrorContains(t, err, "is damaged")
				b, err := os.ReadFile(d.Path(name))
				require.NoError(t, err)
				assert.Equal(t, "x", string(b), "what cannot be mended is left as it is")
				return
			}
			require.NoError(t, err)
			assert.NotEmpty(t, got.Name)
			if tc.damage == "" {
				require.NoError(t, damage)
			} else {
				require.ErrorContains(t, damage, tc.damage)
			}
			if tc.aside != "" {
				b, err := os.ReadFile(d.Path(name + localstate.DamagedSuffix))
				require.NoError(t, err)
				assert.Equal(t, tc.aside, string(b))
			}
			was, err := os.ReadFile(d.Path(name))
			require.NoError(t, err)
			kept, err := os.ReadFile(d.Path(name + localstate.CopySuffix))
			require.NoError(t, err)
			assert.Equal(t, string(was), string(kept), "the next damage finds a copy")
			damage, err = d.Kept(name, open)
			require.NoError(t, err)
			assert.NoError(t, damage)
		})
	}
}

func spoil(name, text string) func(*testing.T, *localstate.Dir) {
	return func(t *testing.T, d *localstate.Dir) { require.NoError(t, d.Write(name, []byte(text))) }
}

func lose(name string) func(*testing.T, *localstate.Dir) {
	return func(t *testing.T, d *localstate.Dir) { require.NoError(t, d.Remove(name)) }
}

func both(f, g func(*testing.T, *localstate.Dir)) func(*testing.T, *localstate.Dir) {
	return func(t *testing.T, d *localstate.Dir) { f(t, d); g(t, d) }
}

// A folder in the way stands for a disk that takes nothing, also for root.
func TestACopyIsUsedWhereNothingCanBeWritten(t *testing.T) {
	d, err := localstate.Open(t.TempDir(), nil)
	require.NoError(t, err)
	defer d.Close()
	require.NoError(t, d.WriteKept("a.json", 1))
	require.NoError(t, d.Write("a.json", []byte("x")))
	require.NoError(t, os.MkdirAll(d.Path("a.json"+localstate.DamagedSuffix+"/in/the/way"), 0o700))
	var got int
	damage, err := d.Kept("a.json", func() error { return d.ReadJSON("a.json", &got) })
	require.NoError(t, err)
	require.ErrorContains(t, damage, "is damaged")
	assert.Equal(t, 1, got)
	require.NoError(t, d.ReadJSON("a.json", &got), "as long as it runs")
	require.NoError(t, d.WriteKept("a.json", 2))
	require.NoError(t, d.ReadJSON("a.json", &got))
	assert.Equal(t, 2, got, "what is written is what is read")
}
