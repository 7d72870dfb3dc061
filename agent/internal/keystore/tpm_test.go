//go:build linux

package keystore_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"

	"github.com/ggfleet/ggfleet/agent/internal/keystore"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// softTPM starts a software TPM that keeps its state in dir, and returns its
// socket and what ends it.
func softTPM(t *testing.T, dir string) (socket string, stop func()) {
	t.Helper()
	path, err := exec.LookPath("swtpm")
	if err != nil {
		require.Empty(t, os.Getenv("GGFLEET_REQUIRE_PEERS"), "swtpm is not installed (Debian packages swtpm, swtpm-tools)")
		t.Skip("swtpm is not installed (Debian packages swtpm, swtpm-tools)")
	}
	sockets, err := os.MkdirTemp("", "tpm") //nolint:usetesting // the path of a socket is short
	require.NoError(t, err)
	socket = filepath.Join(sockets, "s")
	cmd := exec.Command(path, "socket", "--tpm2", "--tpmstate", "dir="+dir, "--server", "type=unixio,path="+socket,
		"--ctrl", "type=unixio,path="+filepath.Join(sockets, "c"), "--flags", "not-need-init,startup-clear")
	require.NoError(t, cmd.Start())
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			_ = os.RemoveAll(sockets)
		}
	}
	t.Cleanup(stop)
	require.Eventually(t, func() bool { _, err := os.Stat(socket); return err == nil }, time.Minute, 5*time.Millisecond)
	return socket, stop
}

func TestKeysInATPM(t *testing.T) {
	state, f := t.TempDir(), files(t.TempDir())
	socket, stop := softTPM(t, state)
	suite(t, func() keystore.Store { return open(t, "tpm:"+socket, f) })
	key, err := open(t, "tpm:"+socket, f).Create("lasting")
	require.NoError(t, err)
	left, err := filepath.Glob(f.Path("*.pem"))
	require.NoError(t, err)
	assert.Empty(t, left)
	stop()

	socket, stop = softTPM(t, state)
	again, err := open(t, "tpm:"+socket, f).Signer("lasting")
	require.NoError(t, err, "it survives a restart of the machine")
	assert.Equal(t, public(t, key), public(t, again))
	usable(t, again)
	stop()

	other, _ := softTPM(t, t.TempDir())
	_, err = open(t, "tpm:"+other, f).Signer("lasting")
	require.ErrorIs(t, err, fault.Denied, "the files alone are no key")
	assert.ErrorContains(t, err, "another TPM")
	_, err = key.Sign(nil, sum256("x"), nil)
	require.ErrorIs(t, err, fault.NotFound, "the device is gone while it is used")
}

func TestATPMThatIsFullSaysSo(t *testing.T) {
	socket, _ := softTPM(t, t.TempDir())
	s := open(t, "tpm:"+socket, files(t.TempDir()))
	hog, err := linuxudstpm.Open(socket)
	require.NoError(t, err)
	var held []tpm2.TPMHandle
	for range 16 {
		made, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(tpm2.ECCSRKTemplate)}.Execute(hog)
		if err != nil {
			break
		}
		held = append(held, made.ObjectHandle)
	}
	_, err = s.Create("key")
	require.ErrorIs(t, err, fault.Exhausted)
	assert.ErrorContains(t, err, "/dev/tpmrm0")
	for _, h := range held {
		_, err = tpm2.FlushContext{FlushHandle: h}.Execute(hog)
		require.NoError(t, err)
	}
	_, err = s.Create("key")
	require.NoError(t, err, "it works again as soon as there is room")
}

func TestATPMThatCannotBeUsed(t *testing.T) {
	plain := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(plain, nil, 0o600))
	for path, want := range map[string]struct {
		kind fault.Kind
		says string
	}{
		"/dev/no-such-tpm": {fault.NotFound, "there is no TPM at /dev/no-such-tpm"},
		plain:              {fault.Unavailable, "cannot be used"},
	} {
		_, err := keystore.Open("tpm:"+path, files(t.TempDir()))
		require.ErrorIs(t, err, want.kind)
		require.ErrorContains(t, err, want.says)
	}
	socket, _ := softTPM(t, t.TempDir())
	f := files(t.TempDir())
	require.NoError(t, f.Write("key.tpm", []byte(`{"public":"AAAA","private":""}`)))
	_, err := open(t, "tpm:"+socket, f).Signer("key")
	require.ErrorIs(t, err, fault.Invalid)
}
