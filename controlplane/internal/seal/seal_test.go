package seal_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/seal"
	"github.com/ggfleet/ggfleet/shared/fault"
)

const place = "/ggfleet/v1/ca/1/key"

func newSealer(t testing.TB, fill byte) seal.Sealer {
	t.Helper()
	s, err := seal.New(bytes.Repeat([]byte{fill}, seal.KeySize))
	require.NoError(t, err)
	return s
}

func TestASealedSecretOpens(t *testing.T) {
	t.Parallel()
	s := newSealer(t, 1)
	for _, plain := range []string{"", "x", "-----BEGIN PRIVATE KEY-----", string(make([]byte, 100_000))} {
		a, err := s.Seal(place, []byte(plain))
		require.NoError(t, err)
		b, err := s.Seal(place, []byte(plain))
		require.NoError(t, err)
		assert.NotEqual(t, a, b, "the same secret sealed twice looks different")
		if len(plain) > 8 {
			assert.NotContains(t, string(a), plain)
		}
		got, err := s.Open(place, a)
		require.NoError(t, err)
		assert.Equal(t, plain, string(got))
	}
}

func TestASecretOpensOnlyAsItWasSealed(t *testing.T) {
	t.Parallel()
	s := newSealer(t, 1)
	sealed, err := s.Seal(place, []byte("secret"))
	require.NoError(t, err)
	for i := range sealed {
		for _, bit := range []byte{1, 0x80} {
			bad := bytes.Clone(sealed)
			bad[i] ^= bit
			_, err := s.Open(place, bad)
			assert.ErrorIs(t, err, fault.Denied, "byte %d changed", i)
		}
		_, err := s.Open(place, sealed[:i])
		assert.ErrorIs(t, err, fault.Denied, "cut to %d bytes", i)
	}
	_, err = s.Open(place, append(bytes.Clone(sealed), 0))
	assert.ErrorIs(t, err, fault.Denied, "longer")
	for _, other := range []string{"", "/ggfleet/v1/ca/2/key", place + "\x00"} {
		_, err = s.Open(other, sealed)
		assert.ErrorIs(t, err, fault.Denied, "in the place of %q", other)
	}
	_, err = newSealer(t, 2).Open(place, sealed)
	require.ErrorIs(t, err, fault.Denied, "with another key")
	assert.Contains(t, fault.Message(err), place)
}

func TestAKeyOfTheWrongSizeIsRefused(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 16, 24, 31, 33} {
		_, err := seal.New(make([]byte, n))
		assert.Error(t, err, "%d bytes", n)
	}
}

func TestTheKeyFileIsMadeOnceAndKept(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "seal.key")
	first, err := seal.OpenFile(path)
	require.NoError(t, err)
	info, err := os.Stat(path)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	sealed, err := first.Seal(place, []byte("secret"))
	require.NoError(t, err)
	again, err := seal.OpenFile(path)
	require.NoError(t, err)
	got, err := again.Open(place, sealed)
	require.NoError(t, err)
	assert.Equal(t, "secret", string(got))
	left, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	assert.Len(t, left, 1, "nothing is left beside the key")
}

func TestAllWhoMakeTheKeyFileAtOnceGetTheSameKey(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "seal.key")
	sealers := make([]seal.Sealer, 8)
	var wg sync.WaitGroup
	for i := range sealers {
		wg.Go(func() {
			var err error
			sealers[i], err = seal.OpenFile(path)
			assert.NoError(t, err)
		})
	}
	wg.Wait()
	sealed, err := sealers[0].Seal(place, []byte("secret"))
	require.NoError(t, err)
	for _, s := range sealers {
		_, err := s.Open(place, sealed)
		assert.NoError(t, err)
	}
}

func TestAKeyFileThatOthersCanUseIsRefusedWithTheWayOut(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "seal.key")
	_, err := seal.OpenFile(path)
	require.NoError(t, err)
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620, 0o666} {
		require.NoError(t, os.Chmod(path, mode))
		_, err = seal.OpenFile(path)
		require.ErrorIs(t, err, fault.Denied, mode.String())
		assert.Contains(t, fault.Message(err), fmt.Sprintf("chmod 0600 %s", path))
	}
	require.NoError(t, os.Chmod(path, 0o400))
	_, err = seal.OpenFile(path)
	assert.NoError(t, err)
}

func TestADamagedKeyFileIsNotReplaced(t *testing.T) {
	t.Parallel()
	for _, content := range []string{"", "AAAA", "not base64 at all", "QUJD\n" + string(make([]byte, 4096))} {
		path := filepath.Join(t.TempDir(), "seal.key")
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		_, err := seal.OpenFile(path)
		require.ErrorIs(t, err, fault.Invalid)
		assert.Contains(t, fault.Message(err), path)
		raw, err := os.ReadFile(path)
		require.NoError(t, err)
		assert.Equal(t, content, string(raw))
	}
	_, err := seal.OpenFile(filepath.Join(t.TempDir(), "none", "seal.key"))
	assert.ErrorContains(t, err, "seal.key")
}

func FuzzOpen(f *testing.F) {
	s := newSealer(f, 1)
	for _, plain := range []string{"", "secret"} {
		sealed, err := s.Seal(place, []byte(plain))
		require.NoError(f, err)
		f.Add(place, sealed)
		f.Add("elsewhere", sealed)
		f.Add(place, sealed[:len(sealed)-1])
	}
	f.Add("", []byte{})
	f.Add(place, []byte{1})
	f.Fuzz(func(t *testing.T, context string, sealed []byte) {
		plain, err := s.Open(context, sealed)
		if err != nil {
			require.ErrorIs(t, err, fault.Denied)
			require.Nil(t, plain)
			return
		}
		require.Equal(t, place, context, "nothing opens elsewhere")
		require.Contains(t, []string{"", "secret"}, string(plain), "nobody but Seal makes what opens")
	})
}
