package app_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestW07ALaterSettingWins(t *testing.T) {
	file := filepath.Join(t.TempDir(), "c.yaml")
	require.NoError(t, os.WriteFile(file, []byte("region: file\nhttp-addr: 127.0.0.1:1\nworkers: 3\nserver-names: [a, b]\ns3-fsync: false\n"), 0o600))
	t.Setenv("GGFLEET_REGION", "env")
	t.Setenv("GGFLEET_WORKERS", "4")
	t.Setenv("GGFLEET_SERVER_NAMES", "c,d")
	t.Setenv("GGFLEET_SOMETHING_ELSE", "x") // of another program
	c, err := load([]string{"--config", file, "--region", "flag"})
	require.NoError(t, err)
	assert.Equal(t, "flag", c.Region)
	assert.Equal(t, 4, c.Workers)
	assert.Equal(t, "127.0.0.1:1", c.HTTPAddr)
	assert.Equal(t, []string{"c", "d"}, c.ServerNames)
	assert.False(t, c.S3Fsync)
	assert.Equal(t, ":8883", c.MQTTAddr, "what nobody sets is the default")

	t.Setenv("GGFLEET_CONFIG", file)
	c, err = load(nil)
	require.NoError(t, err)
	assert.Equal(t, "env", c.Region)
	assert.True(t, filepath.IsAbs(c.DataDir))
	assert.Equal(t, filepath.Join(c.DataDir, "seal.key"), c.SealKeyFile)
}

func TestSettingsThatCannotBeNameTheWayOut(t *testing.T) {
	file := filepath.Join(t.TempDir(), "c.yaml")
	require.NoError(t, os.WriteFile(file, []byte("no-such: 1\n"), 0o600))
	for _, c := range []struct {
		name string
		args []string
		says []string
	}{
		{"external etcd with the embedded S3", []string{"--etcd-endpoints", "x:1"}, []string{"s3-endpoint"}},
		{"external S3 without a key", []string{"--s3-endpoint", "http://x"}, []string{"s3-access-key"}},
		{"no authentication off loopback", []string{"--insecure-no-auth", "--http-addr", ":8080"}, []string{"insecure-no-auth", "loopback"}},
		{"no authentication on a name", []string{"--insecure-no-auth", "--http-addr", "example.com:8080"}, []string{"loopback"}},
		{"a prefix without slash", []string{"--artifact-prefix", "x"}, []string{"artifact-prefix", "slash"}},
		{"an account of letters", []string{"--account", "abcdefghijkl"}, []string{"account"}},
		{"a bad role alias", []string{"--role-alias", "a/b"}, []string{"role-alias"}},
		{"a URL for a host", []string{"--public-host", "https://x"}, []string{"public-host"}},
		{"a bad level", []string{"--log-level", "loud"}, []string{"log-level"}},
		{"a bad format", []string{"--log-format", "xml"}, []string{"log-format"}},
		{"certificates without a day", []string{"--certificate-days", "0"}, []string{"certificate-days 0"}},
		{"certificates for ever", []string{"--certificate-days", "200000"}, []string{"certificate-days 200000"}},
		{"patches without a day", []string{"--patch-days", "0"}, []string{"patch-days 0"}},
		{"patches whose time overflows", []string{"--patch-days", "150000"}, []string{"patch-days 150000"}},
		{"a log of few events", []string{"--event-retain", "99"}, []string{"event-retain 99"}},
		{"a log that fills the store", []string{"--event-retain", "100000000"}, []string{"event-retain 100000000"}},
		{"a prefix of patches without slash", []string{"--patch-prefixes", "shared"}, []string{"patch-prefixes", `"shared"`}},
		{"a prefix of patches that leads up", []string{"--patch-prefixes", "shared/../"}, []string{"patch-prefixes"}},
		{"the whole bucket for patches", []string{"--patch-prefixes", "/"}, []string{"patch-prefixes"}},
		{"a base path with a query", []string{"--base-path", "/fleet?x"}, []string{"base-path"}},
		{"a base path that leads up", []string{"--base-path", "/fleet/../x"}, []string{"base-path"}},
		{"a base path that is a URL", []string{"--base-path", "https://x/fleet"}, []string{"base-path"}},
		{"an origin with a path", []string{"--cors-origin", "https://x.example/"}, []string{"cors-origin", "https://HOST"}},
		{"an origin without scheme", []string{"--cors-origin", "x.example"}, []string{"cors-origin"}},
		{"several origins", []string{"--cors-origin", "https://a.example https://b.example"}, []string{"cors-origin"}},
		{"a generator without URL", []string{"--generators", "SITE"}, []string{"generators", "ALIAS=URL"}},
		{"a generator in the place of a built-in one", []string{"--generators", "MANUAL_INSTALL=https://x"}, []string{"generators", "built in"}},
		{"a generator in plain text", []string{"--generators", "SITE=http://8.8.8.8/"}, []string{"generators", "https"}},
		{"an overlay that is not there", []string{"--generator-overlays", "MANUAL_INSTALL=" + file + ".none"}, []string{"generator-overlays", file + ".none"}},
		{"an overlay that is no JSON", []string{"--generator-overlays", "MANUAL_INSTALL=" + file}, []string{"generator-overlays", "JSON"}},
		{"an overlay of nothing", []string{"--generator-overlays", "NONE=" + file}, []string{"generator-overlays", "NONE"}},
		{"an Asset Library that is no URL", []string{"--asset-library-url", "assets"}, []string{"asset-library-url", "Asset Library"}},
		{"a header that is none", []string{"--asset-library-url", "https://x", "--asset-library-headers", "x y=z"}, []string{"asset-library-headers", "header 1"}},
		{"headers for nobody", []string{"--asset-library-headers", "a=b"}, []string{"asset-library-headers", "asset-library-url"}},
		{"an alias without CA", []string{"--ca-aliases", "plant"}, []string{"ca-aliases", "plant"}},
		{"an alias without private CA", []string{"--pca-aliases", "=x"}, []string{"pca-aliases"}},
		{"a claim directory somewhere", []string{"--claim-cert-dir", "claims"}, []string{"claim-cert-dir", "claims"}},
		{"no workers", []string{"--workers", "0"}, []string{"workers 0"}},
		{"an unknown setting in the file", []string{"--config", file}, []string{"no-such", "--help"}},
		{"no file", []string{"--config", file + ".none"}, []string{file + ".none"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := load(c.args)
			require.Error(t, err)
			for _, s := range c.says {
				assert.ErrorContains(t, err, s)
			}
		})
	}
	c, err := load([]string{"--insecure-no-auth", "--public-host", "::1"})
	require.NoError(t, err)
	assert.True(t, c.InsecureNoAuth)
}
