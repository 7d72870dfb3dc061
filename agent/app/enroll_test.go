//go:build linux

package app_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/agent/app"
	"github.com/ggfleet/ggfleet/agent/internal/agenttest"
	"github.com/ggfleet/ggfleet/shared/fault"
)

func TestEnrollingWhereTheAgentRunsSaysWhoItIsAndWhatToDo(t *testing.T) {
	c := agenttest.New(t, core)
	cfg := fast(t.TempDir())
	_, err := app.Enroll(t.Context(), cfg, c.Enrollment.String())
	require.NoError(t, err)
	e, err := app.Enroll(t.Context(), cfg, "")
	require.NoError(t, err, "there is nothing to do when it does not run, too")
	assert.False(t, e.Fresh)
	defer in(t, c, cfg)()
	require.Eventually(t, func() bool { return len(c.Clients()) == 1 }, patience, tick)

	other := c.Enrollment
	other.ActivationID = "another"
	for name, tc := range map[string]struct {
		how  app.Enrollment
		text string
		same bool
	}{
		"the same string":           {app.Enrollment{}, c.Enrollment.String(), true},
		"nothing":                   {app.Enrollment{}, "", true},
		"the same place":            {app.Enrollment{URL: c.Enrollment.URL, CAFingerprint: c.Enrollment.CAFingerprint}, "", true},
		"the same place and name":   {app.Enrollment{URL: c.Enrollment.URL, CAFingerprint: c.Enrollment.CAFingerprint, Name: core}, "", true},
		"another string":            {app.Enrollment{}, other.String(), false},
		"another name":              {app.Enrollment{URL: c.Enrollment.URL, CAFingerprint: c.Enrollment.CAFingerprint, Name: "another"}, "", false},
		"the same string, but anew": {app.Enrollment{Again: true}, c.Enrollment.String(), false},
	} {
		t.Run(name, func(t *testing.T) {
			beside := cfg
			beside.Enroll = tc.how
			e, err := app.Enroll(t.Context(), beside, tc.text)
			if tc.same {
				require.NoError(t, err)
				assert.False(t, e.Fresh)
				assert.Equal(t, core, e.Core)
				return
			}
			require.ErrorIs(t, err, fault.Exists)
			assert.ErrorContains(t, err, "enrolled as "+core+":agent at "+c.Enrollment.URL)
			assert.ErrorContains(t, err, "--again")
			assert.ErrorContains(t, err, "ggfleet-agent stop")
		})
	}
}

func TestAGroupThatIsNotThereMayNotReadTheKey(t *testing.T) {
	root := t.TempDir()
	require.ErrorIs(t, app.SetClient(root, app.ClientSettings{Group: "no such group"}), fault.Invalid)
	require.NoError(t, app.SetClient(root, app.ClientSettings{}))
}
