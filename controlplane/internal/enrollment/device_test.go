package enrollment_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/enrollment"
)

func TestWhichDevicesTakePatches(t *testing.T) {
	k := newKit(t)
	look := func(device string) [2]bool {
		known, enrolled, err := k.PatchDevice(t.Context(), device)
		require.NoError(t, err)
		return [2]bool{known, enrolled}
	}
	assert.Equal(t, [2]bool{false, false}, look("gw"), "never activated")
	a, code := k.activate(enrollment.NewActivation{DeviceID: "gw"})
	assert.Equal(t, [2]bool{true, false}, look("gw"), "activated")
	_, err := k.enroll(a, code, csr(t))
	require.NoError(t, err)
	assert.Equal(t, [2]bool{true, true}, look("gw"), "enrolled")
	require.NoError(t, k.DeleteActivation(t.Context(), a.ID))
	assert.Equal(t, [2]bool{true, true}, look("gw"), "its agent stays enrolled without the activation")

	odd := "werk 2/halle:ä@x"
	b, _ := k.activate(enrollment.NewActivation{DeviceID: odd})
	got, err := k.Activation(t.Context(), b.ID)
	require.NoError(t, err)
	assert.Equal(t, odd, got.DeviceID, "W-102: as it was given")
	assert.Equal(t, [2]bool{true, false}, look(odd), "no agent can have this name")
	for _, none := range []string{"", "a\nb", strings.Repeat("x", 300), "werk 2"} {
		assert.Equal(t, [2]bool{false, false}, look(none), none)
	}
}
