//go:build pkcs11

package keystore_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/agent/internal/keystore"
	"github.com/ggfleet/ggfleet/shared/fault"
)

const module = "/usr/lib/softhsm/libsofthsm2.so"

// softToken makes a token with the PIN 1234.
func softToken(t *testing.T) (pin string) {
	t.Helper()
	tool, err := exec.LookPath("softhsm2-util")
	if err != nil {
		require.Empty(t, os.Getenv("GGFLEET_REQUIRE_PEERS"), "softhsm2 is not installed (Debian package softhsm2)")
		t.Skip("softhsm2 is not installed (Debian package softhsm2)")
	}
	dir := t.TempDir()
	conf := filepath.Join(dir, "softhsm2.conf")
	require.NoError(t, os.Mkdir(filepath.Join(dir, "tokens"), 0o700))
	require.NoError(t, os.WriteFile(conf, []byte("directories.tokendir = "+filepath.Join(dir, "tokens")+"\nobjectstore.backend = file\n"), 0o600))
	t.Setenv("SOFTHSM2_CONF", conf)
	out, err := exec.Command(tool, "--init-token", "--free", "--label", "device", "--pin", "1234", "--so-pin", "5678").CombinedOutput()
	require.NoError(t, err, string(out))
	pin = filepath.Join(dir, "pin")
	require.NoError(t, os.WriteFile(pin, []byte("1234\n"), 0o600))
	return pin
}

func uri(token, pin string) string {
	return fmt.Sprintf("pkcs11:token=%s?module-path=%s&pin-source=file:%s", token, module, pin)
}

func TestKeysInAToken(t *testing.T) {
	pin := softToken(t)
	suite(t, func() keystore.Store { return open(t, uri("device", pin), files(t.TempDir())) })

	_, err := keystore.Open(uri("none", pin), files(t.TempDir()))
	require.ErrorIs(t, err, fault.NotFound)
	require.ErrorContains(t, err, "token none is not there")
	_, err = keystore.Open("pkcs11:token=device?module-path=/nowhere.so&pin-source="+pin, files(t.TempDir()))
	require.ErrorIs(t, err, fault.NotFound)
	_, err = keystore.Open(uri("device", "/nowhere"), files(t.TempDir()))
	require.ErrorIs(t, err, fault.NotFound)
	require.ErrorContains(t, err, "PIN")
}

func TestAWrongPINSaysSoAndIsNotShown(t *testing.T) {
	pin := softToken(t)
	require.NoError(t, os.WriteFile(pin, []byte("99990000"), 0o600))
	_, err := keystore.Open(uri("device", pin), files(t.TempDir()))
	require.ErrorIs(t, err, fault.Denied)
	require.ErrorContains(t, err, pin)
	require.NotContains(t, err.Error(), "99990000")
}

func TestAWrongPINIsTriedOnce(t *testing.T) {
	pin, kept := softToken(t), files(t.TempDir())
	again := func(content string) error {
		require.NoError(t, os.WriteFile(pin, []byte(content), 0o600))
		s, err := keystore.Open(uri("device", pin), kept)
		if err == nil {
			require.NoError(t, s.Close())
		}
		return err
	}
	require.ErrorIs(t, again("0000"), fault.Denied)
	for range 3 {
		err := again("0000\n")
		require.ErrorIs(t, err, fault.Denied)
		require.ErrorContains(t, err, "refused the PIN in "+pin+" before")
		require.ErrorContains(t, err, kept.Path("pin-refused.json"), "the way out")
	}
	err := again("1111")
	require.ErrorIs(t, err, fault.Denied)
	require.NotContains(t, err.Error(), "PIN in "+pin+" before", "another PIN is tried")
	b, err := os.ReadFile(kept.Path("pin-refused.json"))
	require.NoError(t, err)
	require.NotContains(t, string(b), "1111")
	require.NoError(t, again("1234"))
	require.NoFileExists(t, kept.Path("pin-refused.json"))
}
