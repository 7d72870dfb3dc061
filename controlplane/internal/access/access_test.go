package access_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/access"
	"github.com/ggfleet/ggfleet/controlplane/internal/seal"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/controlplane/internal/state/memory"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
)

func newKeys(t *testing.T, s state.Store) *access.Keys {
	t.Helper()
	sealer, err := seal.New(bytes.Repeat([]byte{7}, 32))
	require.NoError(t, err)
	k, err := access.NewKeys(access.KeysConfig{Store: s, Sealer: sealer})
	require.NoError(t, err)
	return k
}

func newTokens(t *testing.T, s state.Store) *access.Tokens {
	t.Helper()
	k, err := access.NewTokens(access.TokensConfig{Store: s})
	require.NoError(t, err)
	return k
}

// dump is everything that lies in the store.
func dump(t *testing.T, s state.Store) string {
	t.Helper()
	p, err := s.List(t.Context(), "", "", 0)
	require.NoError(t, err)
	var b strings.Builder
	for _, e := range p.Entries {
		fmt.Fprintf(&b, "%s %s\n", e.Key, e.Value)
	}
	return b.String()
}

func TestAnAccessKeyIsFoundUntilItIsRevoked(t *testing.T) {
	s := memory.New()
	k := newKeys(t, s)
	made, err := k.Create(t.Context(), "the build server", "")
	require.NoError(t, err)
	assert.Regexp(t, `^GGFA[A-Z2-7]{16}$`, made.ID)
	assert.Len(t, made.Secret.Reveal(), 40)
	assert.NotContains(t, dump(t, s), made.Secret.Reveal(), "the secret lies sealed")

	got, err := newKeys(t, s).Get(t.Context(), made.ID)
	require.NoError(t, err)
	assert.Equal(t, made.Secret.Reveal(), got.Secret.Reveal())

	other, err := k.Create(t.Context(), "", "")
	require.NoError(t, err)
	all, err := k.List(t.Context())
	require.NoError(t, err)
	require.Len(t, all, 2)
	for _, a := range all {
		assert.Empty(t, a.Secret.Reveal())
	}

	require.NoError(t, k.Revoke(t.Context(), made.ID))
	_, err = k.Get(t.Context(), made.ID)
	require.ErrorIs(t, err, fault.NotFound)
	require.ErrorIs(t, k.Revoke(t.Context(), made.ID), fault.NotFound)
	_, err = k.Get(t.Context(), other.ID)
	require.NoError(t, err)
}

func TestAnAccessKeyHasARole(t *testing.T) {
	s := memory.New()
	k := newKeys(t, s)
	for asked, want := range map[access.Role]access.Role{"": access.Admin, access.Admin: access.Admin, access.Viewer: access.Viewer} {
		made, err := k.Create(t.Context(), string(asked), asked)
		require.NoError(t, err)
		assert.Equal(t, want, made.Role)
		got, err := k.Get(t.Context(), made.ID)
		require.NoError(t, err)
		assert.Equal(t, made, got)
	}
	all, err := k.List(t.Context())
	require.NoError(t, err)
	for _, a := range all {
		assert.Equal(t, a.Description == "viewer", a.Role == access.Viewer)
	}
	for _, bad := range []access.Role{access.Operator, "root"} {
		_, err := k.Create(t.Context(), "", bad)
		require.ErrorIs(t, err, fault.Invalid)
		assert.Equal(t, "role", fault.FieldOf(err))
	}
}

func TestAKeyFromBeforeThereWereRolesMayDoAll(t *testing.T) {
	s := memory.New()
	k := newKeys(t, s)
	made, err := k.Create(t.Context(), "old", access.Viewer)
	require.NoError(t, err)
	at := state.Root + "access/key/" + made.ID
	rec, err := state.Read[map[string]any](t.Context(), s, at)
	require.NoError(t, err)
	delete(rec.Value, "role")
	_, err = s.Commit(t.Context(), state.NewBatch(state.StepAccess).Put(at, rec.Value))
	require.NoError(t, err)
	got, err := k.Get(t.Context(), made.ID)
	require.NoError(t, err)
	assert.Equal(t, access.Admin, got.Role)
	assert.Equal(t, made.Secret.Reveal(), got.Secret.Reveal())
}

func TestAnIDFromOutsideReachesOnlyAccessKeys(t *testing.T) {
	s := memory.New()
	k := newKeys(t, s)
	root, err := k.Root(t.Context())
	require.NoError(t, err)
	for _, id := range []string{"", "../root", "root", root.ID, "GGFA", "GGFA/aaaaaaaaaaaaaaa", strings.Repeat("A", 20), strings.Repeat("x", 5000)} {
		_, err := k.Get(t.Context(), id)
		require.ErrorIs(t, err, fault.NotFound, id)
		require.ErrorIs(t, k.Revoke(t.Context(), id), fault.NotFound, id)
	}
}

func TestASecretMovedToAnotherKeyDoesNotOpen(t *testing.T) {
	s := memory.New()
	k := newKeys(t, s)
	a, err := k.Create(t.Context(), "a", "")
	require.NoError(t, err)
	b, err := k.Create(t.Context(), "b", "")
	require.NoError(t, err)
	prefix := state.Root + "access/key/"
	stolen, err := state.Read[map[string]any](t.Context(), s, prefix+a.ID)
	require.NoError(t, err)
	_, err = s.Commit(t.Context(), state.NewBatch(state.StepAccess).Put(prefix+b.ID, stolen.Value))
	require.NoError(t, err)
	_, err = k.Get(t.Context(), b.ID)
	require.Error(t, err)
}

func TestTheRootKeyIsMadeOnceByWhoeverIsFirst(t *testing.T) {
	s := memory.New()
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		seen = map[string]bool{}
	)
	for range 8 {
		wg.Go(func() {
			r, err := newKeys(t, s).Root(t.Context())
			assert.NoError(t, err)
			mu.Lock()
			defer mu.Unlock()
			seen[r.ID+r.Secret.Reveal()] = true
		})
	}
	wg.Wait()
	assert.Len(t, seen, 1)
	all, err := newKeys(t, s).List(t.Context())
	require.NoError(t, err)
	assert.Empty(t, all)
}

func TestBadDescriptionsAreRefused(t *testing.T) {
	k := newKeys(t, memory.New())
	for _, d := range []string{strings.Repeat("x", 257), "line\nline"} {
		_, err := k.Create(t.Context(), d, "")
		require.ErrorIs(t, err, fault.Invalid)
		assert.Equal(t, "description", fault.FieldOf(err))
	}
}

func TestATokenTellsWhoCalls(t *testing.T) {
	s := memory.New()
	k := newTokens(t, s)
	token, err := k.Create(t.Context(), "ci", access.Operator)
	require.NoError(t, err)
	assert.True(t, strings.HasPrefix(token.Reveal(), "ggft_"))
	assert.NotContains(t, dump(t, s), token.Reveal()[5:], "only a hash is kept")

	p, err := k.Authenticate(t.Context(), token.Reveal())
	require.NoError(t, err)
	assert.Equal(t, access.Principal{Name: "ci", Role: access.Operator}, p)

	_, err = k.Create(t.Context(), "ci", access.Viewer)
	require.ErrorIs(t, err, fault.Exists)
	_, err = k.Create(t.Context(), "x", "owner")
	require.ErrorIs(t, err, fault.Invalid)
	for _, name := range []string{"", "a/b", "a b", strings.Repeat("n", 65)} {
		_, err = k.Create(t.Context(), name, access.Viewer)
		require.ErrorIs(t, err, fault.Invalid, name)
	}

	all, err := k.List(t.Context())
	require.NoError(t, err)
	require.Len(t, all, 1)
	assert.Equal(t, "ci", all[0].Name)
}

func TestAWrongTokenIsUnauthenticated(t *testing.T) {
	k := newTokens(t, memory.New())
	token, err := k.Create(t.Context(), "ci", access.Admin)
	require.NoError(t, err)
	good := token.Reveal()
	last := "A"
	if strings.HasSuffix(good, last) {
		last = "B"
	}
	for _, bad := range []string{"", "ggft_", good + "x", good[:len(good)-1], good[:len(good)-1] + last, strings.ToUpper(good), strings.Repeat("g", 1<<16)} {
		_, err := k.Authenticate(t.Context(), bad)
		require.ErrorIs(t, err, fault.Unauthenticated)
	}
}

func TestARevokedTokenIsRefusedAtOnceHereAndSoonElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memory.New()
		here, there := newTokens(t, s), newTokens(t, s)
		token, err := here.Create(t.Context(), "ci", access.Admin)
		require.NoError(t, err)
		for _, k := range []*access.Tokens{here, there} {
			_, err := k.Authenticate(t.Context(), token.Reveal())
			require.NoError(t, err)
		}
		require.NoError(t, here.Revoke(t.Context(), "ci"))
		_, err = here.Authenticate(t.Context(), token.Reveal())
		require.ErrorIs(t, err, fault.Unauthenticated)
		time.Sleep(5 * time.Second)
		_, err = there.Authenticate(t.Context(), token.Reveal())
		require.ErrorIs(t, err, fault.Unauthenticated)
		require.ErrorIs(t, here.Revoke(t.Context(), "ci"), fault.NotFound)
		_, err = here.Create(t.Context(), "ci", access.Viewer)
		require.NoError(t, err, "the name is free again")
	})
}

// slowGet revokes the token between the read of its record and the answer.
type slowGet struct {
	state.Store
	between func()
}

func (s *slowGet) Get(ctx context.Context, key string) (state.Entry, error) {
	e, err := s.Store.Get(ctx, key)
	if f := s.between; f != nil && strings.Contains(key, "access/token/") {
		s.between = nil
		f()
	}
	return e, err
}

func TestARevocationDuringAuthenticationIsNotCachedOver(t *testing.T) {
	s := &slowGet{Store: memory.New()}
	k := newTokens(t, s)
	token, err := k.Create(t.Context(), "ci", access.Admin)
	require.NoError(t, err)
	s.between = func() { require.NoError(t, k.Revoke(t.Context(), "ci")) }
	_, err = k.Authenticate(t.Context(), token.Reveal())
	require.NoError(t, err, "it was valid when it was read")
	_, err = k.Authenticate(t.Context(), token.Reveal())
	require.ErrorIs(t, err, fault.Unauthenticated)
}

func TestRoles(t *testing.T) {
	assert.True(t, access.Admin.Includes(access.Operator))
	assert.True(t, access.Viewer.Includes(access.Viewer))
	assert.False(t, access.Viewer.Includes(access.Operator))
	assert.False(t, access.Role("root").Includes(access.Viewer))
	assert.False(t, access.Admin.Includes("root"))
}

func readFile(t *testing.T, path string) logx.Secret {
	t.Helper()
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	return logx.NewSecret(string(raw))
}

func TestTheAdminTokenIsWrittenOnceAndStays(t *testing.T) {
	s, path := memory.New(), filepath.Join(t.TempDir(), "admin.token")
	created, err := newTokens(t, s).EnsureAdmin(t.Context(), "admin", path)
	require.NoError(t, err)
	assert.True(t, created)
	first := readFile(t, path)
	fi, err := os.Stat(path)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), fi.Mode().Perm())
	p, err := newTokens(t, s).Authenticate(t.Context(), first.Reveal())
	require.NoError(t, err, "the file holds the token alone")
	assert.Equal(t, access.Principal{Name: "admin", Role: access.Admin}, p)

	created, err = newTokens(t, s).EnsureAdmin(t.Context(), "admin", path)
	require.NoError(t, err)
	assert.False(t, created)
	assert.Equal(t, first.Reveal(), readFile(t, path).Reveal())
	left, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	assert.Len(t, left, 1, "no temporary file stays")
}

func TestAnAdminTokenThatWasLostIsReplacedAndTheOldOneRevoked(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, k *access.Tokens, path string){
		"file deleted": func(t *testing.T, _ *access.Tokens, p string) { require.NoError(t, os.Remove(p)) },
		"file empty":   func(t *testing.T, _ *access.Tokens, p string) { require.NoError(t, os.WriteFile(p, nil, 0o600)) },
		"file of something else": func(t *testing.T, _ *access.Tokens, p string) {
			require.NoError(t, os.WriteFile(p, []byte("ggft_x"), 0o600))
		},
		"file open to all": func(t *testing.T, _ *access.Tokens, p string) { require.NoError(t, os.Chmod(p, 0o644)) },
		"token revoked": func(t *testing.T, k *access.Tokens, _ string) {
			require.NoError(t, k.Revoke(t.Context(), "admin"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, path := memory.New(), filepath.Join(t.TempDir(), "admin.token")
			k := newTokens(t, s)
			_, err := k.EnsureAdmin(t.Context(), "admin", path)
			require.NoError(t, err)
			old := readFile(t, path)
			_, err = k.Authenticate(t.Context(), old.Reveal())
			require.NoError(t, err)

			spoil(t, k, path)
			created, err := k.EnsureAdmin(t.Context(), "admin", path)
			require.NoError(t, err)
			assert.True(t, created)
			_, err = k.Authenticate(t.Context(), old.Reveal())
			require.ErrorIs(t, err, fault.Unauthenticated)
			_, err = k.Authenticate(t.Context(), readFile(t, path).Reveal())
			require.NoError(t, err)
		})
	}
}

func TestACrashBetweenStoreAndFileHealsAtTheNextStart(t *testing.T) {
	s, dir := memory.New(), t.TempDir()
	k := newTokens(t, s)
	_, err := k.EnsureAdmin(t.Context(), "admin", filepath.Join(dir, "absent", "admin.token"))
	require.Error(t, err, "the file could not be written")
	path := filepath.Join(dir, "admin.token")
	created, err := k.EnsureAdmin(t.Context(), "admin", path)
	require.NoError(t, err)
	assert.True(t, created)
	_, err = k.Authenticate(t.Context(), readFile(t, path).Reveal())
	require.NoError(t, err)
	all, err := k.List(t.Context())
	require.NoError(t, err)
	assert.Len(t, all, 1, "the token that nobody knows is gone")

	s.FailCommit = func(*state.Batch) error { return fault.Unavailable }
	require.NoError(t, os.Remove(path))
	_, err = k.EnsureAdmin(t.Context(), "admin", path)
	require.ErrorIs(t, err, fault.Unavailable)
	assert.NoFileExists(t, path, "no token that the store does not know")
}
