//go:build linux

package app_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/agent/app"
	"github.com/ggfleet/ggfleet/agent/internal/agenttest"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

func TestAnAgentThatHandsOverLeavesTheNucleusToTheNext(t *testing.T) {
	c := agenttest.New(t, core)
	c.Change(func(s *agenttest.State) { s.Config, s.Assignment.Config = []byte(document), true })
	c.Offer("1.0.0", agenttest.Archive(t, "1.0.0", agenttest.Works))
	cfg := fast(t.TempDir())
	_, err := app.Enroll(t.Context(), cfg, c.Enrollment.String())
	require.NoError(t, err)
	ctx, end := context.WithCancelCause(t.Context())
	done := make(chan error, 1)
	go func() { done <- app.Run(ctx, cfg) }()
	running := func() bool { return c.LastNucleus().State == protocol.NucleusRunning }
	require.Eventually(t, running, patience, tick)
	first := c.LastNucleus().PID
	end(app.ErrHandOver)
	require.ErrorIs(t, <-done, app.ErrHandOver)
	require.Equal(t, []int{first}, nuclei(cfg.Root), "it runs on")

	handedOver := time.Now()
	stop := in(t, c, cfg)
	require.Eventually(t, func() bool { return running() && c.LastNucleus().Time.After(handedOver) }, patience, tick)
	assert.Equal(t, []int{first}, nuclei(cfg.Root), "and is taken up, not started again")
	stop()
	assert.Empty(t, nuclei(cfg.Root))
}

func TestAnAgentThatIsStoppedAsSoonAsItHasTakenOverStopsTheNucleus(t *testing.T) {
	c := agenttest.New(t, core)
	c.Change(func(s *agenttest.State) { s.Config, s.Assignment.Config = []byte(document), true })
	c.Offer("1.0.0", agenttest.Archive(t, "1.0.0", agenttest.Works))
	cfg := fast(t.TempDir())
	_, err := app.Enroll(t.Context(), cfg, c.Enrollment.String())
	require.NoError(t, err)
	ctx, end := context.WithCancelCause(t.Context())
	done := make(chan error, 1)
	go func() { done <- app.Run(ctx, cfg) }()
	require.Eventually(t, func() bool { return c.LastNucleus().State == protocol.NucleusRunning }, patience, tick)
	end(app.ErrHandOver)
	require.ErrorIs(t, <-done, app.ErrHandOver)
	require.Len(t, nuclei(cfg.Root), 1)

	stopped, stop := context.WithCancel(t.Context())
	stop()
	require.NoError(t, app.Run(stopped, cfg))
	assert.Empty(t, nuclei(cfg.Root))
}
