package mqttlink_test

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/agent/internal/agenttest"
	"github.com/ggfleet/ggfleet/agent/internal/enroll"
	"github.com/ggfleet/ggfleet/agent/internal/identity"
	"github.com/ggfleet/ggfleet/agent/internal/localstate"
	"github.com/ggfleet/ggfleet/agent/internal/mqttlink"
)

const (
	patience = 2 * time.Minute
	tick     = 5 * time.Millisecond
)

// enrolled is the identity of the agent of gw.
func enrolled(t *testing.T, c *agenttest.Cloud) *identity.Live {
	t.Helper()
	d, err := localstate.Open(t.TempDir(), nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = d.Close() })
	_, _, err = enroll.Run(t.Context(), enroll.Config{Dir: d}, enroll.Intent{String: c.Enrollment.String()})
	require.NoError(t, err)
	live, err := identity.Open(d)
	require.NoError(t, err)
	return live
}

// connect runs a session until the test ends.
func connect(t *testing.T, live *identity.Live, taken func()) *mqttlink.Link {
	t.Helper()
	id := live.Identity()
	host, _, err := net.SplitHostPort(id.MQTTAddress)
	require.NoError(t, err)
	l, err := mqttlink.New(mqttlink.Config{
		Address: id.MQTTAddress, TLS: live.TLS(host), ClientID: id.AgentThing, MinWait: 10 * time.Millisecond, OnTakenOver: taken,
		Will: func() (string, []byte) { return "ggfleet/v1/cores/gw/agent/connection", []byte("{}") },
	})
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		assert.NoError(t, <-done)
	})
	require.Eventually(t, l.Connected, patience, tick)
	return l
}

func TestTwoAgentsWithOneIdentityDoNotFightForTheSession(t *testing.T) {
	c := agenttest.New(t, "gw")
	live := enrolled(t, c)
	taken := make(chan struct{}, 10)
	first := connect(t, live, func() { taken <- struct{}{} })
	second := connect(t, live, func() { taken <- struct{}{} })
	select {
	case <-taken:
	case <-time.After(patience):
		require.Fail(t, "the first is not told")
	}
	require.Eventually(t, func() bool { return !first.Connected() }, patience, tick)
	assert.Never(t, first.Connected, 300*time.Millisecond, 20*time.Millisecond, "the newest wins, and the other one waits")
	assert.True(t, second.Connected())
	assert.Len(t, c.Clients(), 2)
	assert.Empty(t, taken)
}

func TestReconnectIsAnotherSession(t *testing.T) {
	c := agenttest.New(t, "gw")
	l := connect(t, enrolled(t, c), nil)
	for range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		require.NoError(t, l.Reconnect(ctx))
		cancel()
		assert.True(t, l.Connected())
	}
	assert.Len(t, c.Clients(), 4)
	require.NoError(t, l.Publish(t.Context(), "ggfleet/v1/cores/gw/agent/health", []byte(`{}`)))
}

func TestReconnectEndsWithItsContext(t *testing.T) {
	c := agenttest.New(t, "gw")
	l := connect(t, enrolled(t, c), nil)
	c.Change(func(s *agenttest.State) { clear(s.Agents) }) // it is refused from now on
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, l.Reconnect(ctx), context.DeadlineExceeded)
}

func TestADeviceWithoutPowerIsMissedAfter45Seconds(t *testing.T) {
	c := agenttest.New(t, "gw")
	connect(t, enrolled(t, c), nil)
	assert.LessOrEqual(t, c.KeepAlive()*3/2, 45*time.Second, "which is when a broker ends its session (MQTT 5, 3.1.2.10)")
}
