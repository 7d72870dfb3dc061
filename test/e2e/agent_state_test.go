package e2e_test

import (
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/test/internal/world"
)

// told is what of an agent's reports this test looks at.
type told struct {
	Agent struct {
		Connected bool `json:"connected"`
		Nucleus   struct {
			Version  string `json:"version"`
			Runtime  string `json:"runtime"`
			Root     string `json:"root"`
			Adopted  bool   `json:"adopted"`
			LogBytes int64  `json:"logBytes"`
		} `json:"nucleus"`
		Machine struct {
			OS     string `json:"os"`
			Kernel string `json:"kernel"`
			CPUs   int    `json:"cpus"`
			BootID string `json:"bootId"`
		} `json:"machine"`
		Host struct {
			Inodes             *uint64  `json:"inodes"`
			DiskReadOnly       *bool    `json:"diskReadOnly"`
			ClockOffsetSeconds *float64 `json:"clockOffsetSeconds"`
		} `json:"host"`
		AgentExpires time.Time `json:"agentCertificateExpires"`
		CoreExpires  time.Time `json:"coreCertificateExpires"`
		Source       string    `json:"componentsSource"`
	} `json:"agent"`
}

func TestAnAgentTellsWhatTheDeviceIsAndItsEndIsSeenAtOnce(t *testing.T) {
	const core = "press-09"
	w := world.Start(t, world.Options{})
	offerNucleus(t, w)
	createCore(t, w, core, "default")
	agent := enrol(t, w, core)
	world.Eventually(t, func() string { return show(t, w, core).whole() })
	var s told
	world.Eventually(t, func() string {
		w.Call(t, http.MethodGet, "/cores/"+core, nil, &s)
		if a := s.Agent; a.Machine.Kernel == "" || a.AgentExpires.IsZero() || a.CoreExpires.IsZero() || a.Source == "" || a.Host.ClockOffsetSeconds == nil {
			return fmt.Sprintf("not everything is told: %+v", a)
		}
		return ""
	})
	assert.Equal(t, "linux", s.Agent.Machine.OS)
	assert.Positive(t, s.Agent.Machine.CPUs)
	assert.NotEmpty(t, s.Agent.Machine.BootID)
	assert.NotNil(t, s.Agent.Host.Inodes)
	assert.NotNil(t, s.Agent.Host.DiskReadOnly)
	assert.InDelta(t, 0, *s.Agent.Host.ClockOffsetSeconds, 5)
	assert.Equal(t, "simulated", s.Agent.Nucleus.Runtime)
	assert.Equal(t, agent.root, s.Agent.Nucleus.Root)
	assert.False(t, s.Agent.Nucleus.Adopted)
	assert.Equal(t, "state", s.Agent.Source)

	named := func(filter string) (names []string) {
		var list struct{ Cores []struct{ Name string } }
		w.Call(t, http.MethodGet, "/cores?agent="+filter, nil, &list)
		for _, c := range list.Cores {
			names = append(names, c.Name)
		}
		return names
	}
	counted := func() (connected, offline int) {
		var sum struct {
			Agents struct{ Connected, Offline int } `json:"agents"`
		}
		w.Call(t, http.MethodGet, "/fleet/summary", nil, &sum)
		return sum.Agents.Connected, sum.Agents.Offline
	}
	assert.Equal(t, []string{core}, named("connected"))
	assert.Empty(t, named("offline"))

	agent.kill9(t)
	world.Eventually(t, func() string {
		if !slices.Contains(named("offline"), core) {
			return "a killed agent is not listed as offline"
		}
		return ""
	})
	connected, offline := counted()
	assert.Equal(t, []int{0, 1}, []int{connected, offline})
	agent.start(t)
	world.Eventually(t, func() string {
		if c, _ := counted(); c != 1 {
			return "it is not back"
		}
		return ""
	})
	world.Eventually(t, func() string { return show(t, w, core).whole() })
	require.Empty(t, named("offline"))
}
