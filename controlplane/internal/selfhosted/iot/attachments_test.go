package iot_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/iot"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// A certificate without thing can be connected, as a claim.
func TestSessionsOfACertificateWithoutThingFollowWhatIsAttached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		ctx, stop := context.WithCancel(t.Context())
		var heard []iot.Change
		done := make(chan error, 1)
		require.NoError(t, k.PutPolicy(ctx, "claims", allowAll))
		_, err := k.CreateThing(ctx, iot.NewThing{Name: "gw"})
		require.NoError(t, err)
		c, _, err := k.CreateKeys(ctx, cloud.Active)
		require.NoError(t, err)
		go func() { done <- k.Changes(ctx, func(c iot.Change) { heard = append(heard, c) }) }()
		for _, change := range []func() error{
			func() error { return k.AttachPolicy(ctx, "claims", iot.Target{Certificate: c.ID}) },
			func() error { return k.DetachPolicy(ctx, "claims", iot.Target{Certificate: c.ID}) },
			func() error { return k.AttachPrincipal(ctx, "gw", c.ID, nil) },
			func() error { return k.DetachPrincipal(ctx, "gw", c.ID) },
		} {
			synctest.Wait()
			heard = nil
			require.NoError(t, change())
			synctest.Wait()
			assert.Equal(t, []iot.Change{{Certificate: c.ID}}, heard)
		}
		stop()
		require.NoError(t, <-done)
	})
}

func TestThingsOfOneCertificateAreBoundedHoweverTheyGetIt(t *testing.T) {
	k := newKit(t)
	c := k.spare(cloud.Active)
	register := func(n int) error {
		_, err := k.register(cloud.Registration{Thing: fmt.Sprint("gw-", n), CertificateID: c.ID})
		return err
	}
	for i := range iot.MaxThings {
		require.NoError(t, register(i))
	}
	require.ErrorIs(t, register(iot.MaxThings), fault.Invalid)
	require.NoError(t, register(0), "one that has it")
	_, err := k.CreateThing(t.Context(), iot.NewThing{Name: "more"})
	require.NoError(t, err)
	require.ErrorIs(t, k.AttachPrincipal(t.Context(), "more", c.ID, nil), fault.Invalid)
}
