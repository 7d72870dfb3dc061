package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/installer/nucleus"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/test/internal/standin"
)

func TestAPackInEachLayoutIsRecognised(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "program")
	require.NoError(t, os.WriteFile(program, []byte("program"), 0o755))
	for layout, want := range map[string]nucleus.Layout{
		"classic": nucleus.LayoutClassic, "lite": nucleus.LayoutLiteFiles, "lite-deb": nucleus.LayoutLitePackage, "lite-zip": nucleus.LayoutLitePackage,
	} {
		t.Run(layout, func(t *testing.T) {
			var first, second bytes.Buffer
			file := filepath.Join(dir, layout)
			args := []string{"pack", "--out", file, "--version", "2.6.1", "--program", program, "--layout", layout}
			require.NoError(t, command(t.Context(), args, &first, os.Stderr))
			require.NoError(t, command(t.Context(), args, &second, os.Stderr))
			assert.Equal(t, first.String(), second.String(), "the same bytes")
			f, err := os.Open(file)
			require.NoError(t, err)
			defer func() { _ = f.Close() }()
			m, err := nucleus.Inspect(f, "")
			require.NoError(t, err)
			assert.Equal(t, want, m.Layout)
			assert.Equal(t, "2.6.1", m.Version)
		})
	}
	for _, args := range [][]string{{"--layout", "snap"}, {"--layout", "classic", "--broken", "badly"}} {
		err := command(t.Context(), append([]string{"pack", "--out", filepath.Join(dir, "x"), "--version", "1", "--program", program}, args...), os.Stderr, os.Stderr)
		require.ErrorIs(t, err, fault.Invalid)
	}
}

func TestJavaIsAVersionAnInstallerAndTheNucleus(t *testing.T) {
	root := t.TempDir()
	var out, errOut bytes.Buffer
	require.NoError(t, runJava(t.Context(), []string{"-version"}, &out, &errOut))
	assert.Contains(t, errOut.String(), `openjdk version "17.0.10"`)

	write := func(name string, j jar) string {
		b, err := json.Marshal(j)
		require.NoError(t, err)
		file := filepath.Join(root, name, "lib/Greengrass.jar")
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
		require.NoError(t, os.WriteFile(file, b, 0o644))
		return file
	}
	good, bad := write("good", jar{Version: "2.10.0"}), write("bad", jar{Version: "2.11.0", Broken: brokenSetup})
	require.NoError(t, runJava(t.Context(), []string{"-jar", good, "--version"}, &out, &errOut))
	assert.Equal(t, "AWS Greengrass v2.10.0\n", out.String())

	cloud := standin.Start(t)
	install(t, cloud, root, "core-1", "init.yaml")
	setup := []string{"-Droot=" + root, "-Dlog.store=FILE", "-jar", good, "--init-config", filepath.Join(root, "init.yaml"), "--setup-system-service", "false", "--start", "false"}
	require.NoError(t, runJava(t.Context(), setup, &out, &errOut))
	to, err := os.Readlink(filepath.Join(root, "alts/init/distro"))
	require.NoError(t, err)
	assert.Equal(t, filepath.Join(root, "good"), to)
	setup[3] = bad
	require.Error(t, runJava(t.Context(), setup, &out, &errOut))
	require.ErrorIs(t, runJava(t.Context(), append(setup, "--provision", "true"), &out, &errOut), fault.Invalid)

	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- runJava(ctx, []string{"-Dlog.store=FILE", "-Droot=" + root, "-jar", good, "--setup-system-service", "false"}, &out, &errOut)
	}()
	require.Eventually(t, func() bool { return len(cloud.Statuses("core-1")) > 0 }, waitLimit, waitLimit/10000)
	stop()
	assert.Equal(t, exitError(143), <-ended, "as a JVM that got SIGTERM")
	assert.Equal(t, "2.10.0", cloud.Statuses("core-1")[0].GGCVersion, "the version of the distribution")
}
