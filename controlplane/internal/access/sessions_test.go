package access_test

import (
	"bytes"
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/access"
	"github.com/ggfleet/ggfleet/shared/fault"
)

var sessionStart = time.Date(2026, 3, 2, 8, 0, 0, 500e6, time.UTC)

func newSessions(t testing.TB, secret byte) *access.Sessions {
	t.Helper()
	s, err := access.NewSessions(access.SessionsConfig{Secret: bytes.Repeat([]byte{secret}, 32), Now: func() time.Time { return sessionStart }})
	require.NoError(t, err)
	return s
}

func TestAnyReplicaReadsWhatWasHandedOut(t *testing.T) {
	made, err := newSessions(t, 1).Issue(t.Context(), "core-1", "alias", time.Hour)
	require.NoError(t, err)
	assert.Regexp(t, `^ASIA[A-Z2-7]{16}$`, made.AccessKey)
	assert.Len(t, made.Secret.Reveal(), 40)
	assert.Equal(t, time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC), made.Expires)

	got, err := newSessions(t, 1).Open(t.Context(), made.AccessKey, made.Token)
	require.NoError(t, err)
	assert.Equal(t, made, got)
	assert.Equal(t, "core-1", got.Thing)
	assert.Equal(t, "alias", got.RoleAlias)

	again, err := newSessions(t, 1).Issue(t.Context(), "core-1", "alias", time.Hour)
	require.NoError(t, err)
	assert.NotEqual(t, made.AccessKey, again.AccessKey)
	assert.NotEqual(t, made.Secret.Reveal(), again.Secret.Reveal())
}

func TestATokenThatWasNotMadeHereIsNotKnown(t *testing.T) {
	s := newSessions(t, 1)
	made, err := s.Issue(t.Context(), "core-1", "alias", time.Hour)
	require.NoError(t, err)
	other, err := s.Issue(t.Context(), "core-2", "alias", time.Hour)
	require.NoError(t, err)
	foreign, err := newSessions(t, 2).Issue(t.Context(), "core-1", "alias", time.Hour)
	require.NoError(t, err)
	raw, err := base64.StdEncoding.DecodeString(made.Token)
	require.NoError(t, err)
	for name, tt := range map[string]struct{ key, token string }{
		"another key's":      {made.AccessKey, other.Token},
		"another server's":   {foreign.AccessKey, foreign.Token},
		"none":               {made.AccessKey, ""},
		"a part":             {made.AccessKey, made.Token[:40]},
		"no base64":          {made.AccessKey, "*" + made.Token[1:]},
		"a line break in it": {made.AccessKey, made.Token[:8] + "\n" + made.Token[8:]},
		"beyond every bound": {made.AccessKey, strings.Repeat("A", 4096)},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := s.Open(t.Context(), tt.key, tt.token)
			require.ErrorIs(t, err, fault.NotFound)
		})
	}
	for i := range raw {
		changed := bytes.Clone(raw)
		changed[i] ^= 1
		_, err := s.Open(t.Context(), made.AccessKey, base64.StdEncoding.EncodeToString(changed))
		require.ErrorIs(t, err, fault.NotFound, "byte %d", i)
	}
}

func TestNamesAsLongAsTheyMayBeFitIntoAToken(t *testing.T) {
	made, err := newSessions(t, 1).Issue(t.Context(), strings.Repeat("t", 128), strings.Repeat("a", 128), 12*time.Hour)
	require.NoError(t, err)
	assert.Less(t, len(made.Token), 1024)
	_, err = newSessions(t, 1).Issue(t.Context(), strings.Repeat("t", 2000), "a", time.Hour)
	require.ErrorIs(t, err, fault.Invalid)
}

func TestSessionsNeedASecretThatNobodyGuesses(t *testing.T) {
	_, err := access.NewSessions(access.SessionsConfig{Secret: []byte("short")})
	require.Error(t, err)
}
