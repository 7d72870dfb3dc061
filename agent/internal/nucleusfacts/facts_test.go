package nucleusfacts_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/agent/internal/nucleusfacts"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// programs answers instead of programs, and counts how often it was asked.
type programs struct {
	out   []byte
	err   error
	calls [][]string
}

// Output implements nucleusfacts.System.
func (p *programs) Output(_ context.Context, _ int, argv ...string) ([]byte, error) {
	p.calls = append(p.calls, argv)
	return p.out, p.err
}

func read(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	require.NoError(t, err)
	return b
}

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
	require.NoError(t, os.WriteFile(path, content, 0o700))
}

func TestWhatLiteRunsIsReadFromItsUnitsInOneCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys := &programs{out: read(t, "systemctl-show.txt")}
		r := nucleusfacts.New(nucleusfacts.Config{System: sys})
		n := nucleusfacts.Nucleus{Runtime: nucleusfacts.Lite, Root: t.TempDir()}
		f := r.Read(t.Context(), n)
		assert.Equal(t, protocol.ComponentsFromSystemd, f.Source)
		assert.Equal(t, []protocol.LocalComponent{
			{Name: "com.example.Bad", State: "BROKEN"},
			{Name: "com.example.Bye", State: "STOPPING"},
			{Name: "com.example.Ill", State: "ERRORED"},
			{Name: "com.example.Late", State: "STARTING"},
			{Name: "com.example.New", State: "INSTALLED"},
			{Name: "com.example.Once", State: "FINISHED"},
			{Name: "com.example.Press", Version: "1.4.2", State: "RUNNING"},
		}, f.Components)
		for range 100 { // as often as the agent looks in 500 seconds
			time.Sleep(5 * time.Second)
			r.Read(t.Context(), n)
		}
		assert.Len(t, sys.calls, 9)

		sys.err = errors.New("no systemd")
		time.Sleep(time.Hour)
		assert.Equal(t, f.Components, r.Read(t.Context(), n).Components, "what was known stays")
	})
}

func TestWhatClassicRunsIsReadFromItsConfigurationUntilTheCLITells(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := t.TempDir()
		config := filepath.Join(root, "config", "effectiveConfig.yaml")
		sys := &programs{out: read(t, "component-list.txt")}
		r := nucleusfacts.New(nucleusfacts.Config{System: sys})
		n := nucleusfacts.Nucleus{Runtime: nucleusfacts.Classic, Root: root}
		assert.Zero(t, r.Read(t.Context(), n), "nothing is there yet")

		write(t, config, read(t, "effectiveConfig.yaml"))
		f := r.Read(t.Context(), n)
		assert.Equal(t, protocol.ComponentsFromConfiguration, f.Source)
		assert.Equal(t, []protocol.LocalComponent{{Name: "aws.greengrass.Nucleus", Version: "2.12.0"}, {Name: "com.example.Press", Version: "1.4.2"}}, f.Components)
		assert.Len(t, f.ConfigDigest, 64)
		assert.Empty(t, sys.calls, "the CLI is not deployed")

		cli := filepath.Join(root, "bin", "greengrass-cli")
		write(t, cli, nil)
		f = r.Read(t.Context(), n)
		assert.Equal(t, protocol.ComponentsFromCLI, f.Source)
		assert.Contains(t, f.Components, protocol.LocalComponent{Name: "com.example.Press", Version: "1.4.2", State: "BROKEN"})
		assert.Equal(t, [][]string{{cli, "component", "list"}}, sys.calls)
		for range 700 {
			time.Sleep(5 * time.Second)
			r.Read(t.Context(), n)
		}
		assert.Len(t, sys.calls, 1, "a JVM is not started for nothing")

		sys.out, sys.err = nil, errors.New("no nucleus runs")
		time.Sleep(time.Hour)
		f = r.Read(t.Context(), n)
		assert.Len(t, sys.calls, 2)
		assert.Equal(t, protocol.ComponentsFromConfiguration, f.Source, "states that nobody confirms are not told on")
	})
}

func TestTheDigestOfAConfigurationCoversNoSecret(t *testing.T) {
	b := string(read(t, "effectiveConfig.yaml"))
	_, digest, err := nucleusfacts.ParseEffective([]byte(b))
	require.NoError(t, err)
	for old, other := range map[string]string{"hunter2": "x", "s3cr3t": "y", "username: \"fleet\"": "username: \"u\"", "privKey.key": "k"} {
		require.Contains(t, b, old)
		_, again, err := nucleusfacts.ParseEffective([]byte(strings.ReplaceAll(b, old, other)))
		require.NoError(t, err)
		assert.Equal(t, digest, again, old)
	}
	for old, other := range map[string]string{"1.4.2": "1.4.3", "iotDataEndpoint: \"fleet": "iotDataEndpoint: \"other", "press-07": "press-08"} {
		require.Contains(t, b, old)
		_, again, err := nucleusfacts.ParseEffective([]byte(strings.ReplaceAll(b, old, other)))
		require.NoError(t, err)
		assert.NotEqual(t, digest, again, old)
	}
}

func TestAStateFileIsReadWhenItChanges(t *testing.T) {
	root := t.TempDir()
	state := filepath.Join(root, "state.json")
	r := nucleusfacts.New(nucleusfacts.Config{System: &programs{}})
	n := nucleusfacts.Nucleus{Root: root, StateFile: state}
	assert.Nil(t, r.Read(t.Context(), n).Components, "not told")
	write(t, state, []byte(`{"components":[]}`))
	f := r.Read(t.Context(), n)
	assert.Equal(t, protocol.ComponentsFromState, f.Source)
	assert.Equal(t, []protocol.LocalComponent{}, f.Components, "none")
	write(t, state, []byte(`{"components":[{"name":"b","version":"1"},{"name":"a","version":"1","state":"RUNNING"}]}`))
	assert.Equal(t, []protocol.LocalComponent{{Name: "a", Version: "1", State: "RUNNING"}, {Name: "b", Version: "1"}}, r.Read(t.Context(), n).Components)
	write(t, state, []byte(`{"compon`))
	assert.Len(t, r.Read(t.Context(), n).Components, 2, "half a file says nothing")
}

func TestErrorsInTheLogAreCountedFromTheFirstLookOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := t.TempDir()
		log := filepath.Join(root, "logs", "greengrass.log")
		write(t, log, []byte("2026-03-09T17:45:00.250Z [ERROR] (main) old\n"))
		write(t, filepath.Join(root, "logs", "com.example.Press.log"), make([]byte, 1000))
		r := nucleusfacts.New(nucleusfacts.Config{System: &programs{}})
		n := nucleusfacts.Nucleus{Runtime: nucleusfacts.Classic, Root: root}
		look := func() nucleusfacts.Facts {
			time.Sleep(time.Minute)
			return r.Read(t.Context(), n)
		}
		f := look()
		assert.Equal(t, int64(1044), f.LogBytes)
		assert.Zero(t, f.LogErrors)

		add := func(s string) {
			f, err := os.OpenFile(log, os.O_APPEND|os.O_WRONLY, 0)
			require.NoError(t, err)
			_, err = f.WriteString(s)
			require.NoError(t, err)
			require.NoError(t, f.Close())
		}
		add("x [INFO] fine\ny [ERROR] bad\n{\"level\":\"ERROR\"}\nhalf [ERR")
		assert.Equal(t, uint64(2), look().LogErrors)
		add("OR] the rest\n")
		assert.Equal(t, uint64(3), look().LogErrors, "a line is counted once it has its end")
		write(t, log, []byte("z [ERROR] of the next file\n"))
		assert.Equal(t, uint64(4), look().LogErrors)
		assert.Equal(t, uint64(4), look().LogErrors)
	})
}

func TestAProgramThatHangsOrFloodsIsEnded(t *testing.T) {
	if _, err := os.Stat("/bin/sh"); err != nil {
		t.Skip("needs a shell")
	}
	root := t.TempDir()
	write(t, filepath.Join(root, "config", "effectiveConfig.yaml"), read(t, "effectiveConfig.yaml"))
	write(t, filepath.Join(root, "bin", "greengrass-cli"), []byte("#!/bin/sh\nexec yes 'Component Name: x'\n"))
	r := nucleusfacts.New(nucleusfacts.Config{})
	f := r.Read(t.Context(), nucleusfacts.Nucleus{Runtime: nucleusfacts.Classic, Root: root})
	assert.Equal(t, protocol.ComponentsFromConfiguration, f.Source)
}

func FuzzWhatProgramsAndFilesSay(f *testing.F) {
	f.Add(read(f, "effectiveConfig.yaml"))
	f.Add(read(f, "component-list.txt"))
	f.Add(read(f, "systemctl-show.txt"))
	f.Add([]byte("services: &a {x: {version: '1', configuration: *a}}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		effective, digest, err := nucleusfacts.ParseEffective(b)
		if err == nil {
			require.Len(t, digest, 64)
		}
		nucleusfacts.ErrorLines(b)
		for _, list := range [][]protocol.LocalComponent{effective, nucleusfacts.ParseCLI(b), nucleusfacts.ParseUnits(b)} {
			for i, c := range list {
				require.NotEmpty(t, c.Name)
				require.True(t, nucleusfacts.Shown(c.Name) && nucleusfacts.Shown(c.Version) && nucleusfacts.Shown(c.State))
				require.True(t, i == 0 || list[i-1].Name < c.Name)
			}
		}
	})
}
