package nucleus_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	process "github.com/ggfleet/ggfleet/agent/internal/nucleus"
	"github.com/ggfleet/ggfleet/installer/nucleus"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

func TestWhatSystemctlShows(t *testing.T) {
	for out, want := range map[string][2]int{
		"": {0, 0},
		"Id=a.service\nActiveState=active\nNRestarts=2\n\nId=b.service\nActiveState=failed\nNRestarts=3\n": {1, 5},
		"Id=a\nActiveState=activating\nSubState=auto-restart\n":                                            {0, 0},
		"Id=a\nActiveState=activating\nSubState=start\n":                                                   {1, 0},
		"ActiveState=active\n":                        {0, 0},
		"Id=a\nNRestarts=many\nActiveState=reloading": {1, 0},
	} {
		up, restarted := process.ShownUnits(out)
		assert.Equal(t, want, [2]int{up, restarted}, out)
	}
}

func FuzzShow(f *testing.F) {
	f.Add("Id=a.service\nActiveState=active\nNRestarts=2\n\nId=b.service\n")
	f.Fuzz(func(t *testing.T, out string) {
		up, _ := process.ShownUnits(out)
		require.LessOrEqual(t, up, strings.Count(out, "\n\n")+1)
	})
}

// host is a systemd with one unit.
type host struct {
	nucleus.System
	mu     sync.Mutex
	active bool
	away   bool // systemd answers nothing
	calls  []string
}

func (h *host) Run(_ context.Context, c nucleus.Command) (nucleus.Result, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.away {
		h.calls = append(h.calls, "unanswered")
		return nucleus.Result{}, errors.New("no bus")
	}
	h.calls = append(h.calls, c.Argv[1])
	switch c.Argv[1] {
	case "start":
		h.active = true
	case "stop":
		h.active = false
	case "show":
		state := "inactive"
		if h.active {
			state = "active"
		}
		return nucleus.Result{Stdout: []byte("Id=greengrass.service\nActiveState=" + state + "\nMainPID=7\nNRestarts=0\n")}, nil
	}
	return nucleus.Result{}, nil
}

func (h *host) set(f func(*host)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f(h)
}

func (h *host) called(verb string) (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.calls {
		if c == verb {
			n++
		}
	}
	return n
}

func TestAServiceOfTheHostIsWatchedAndOutlivesTheAgent(t *testing.T) {
	h := &host{}
	var last func() (protocol.NucleusState, string)
	t.Run("while the agent runs", func(t *testing.T) {
		s, said, root := supervise(t, process.Config{System: h, UpFor: 20 * time.Millisecond, Look: time.Millisecond, MinWait: time.Millisecond, MaxWait: time.Millisecond})
		last = func() (protocol.NucleusState, string) { return said.last().State, said.last().LastError }
		require.ErrorIs(t, s.Restart(t.Context()), fault.NotFound)
		spec := process.Spec{Version: nucleus.Version{Name: "n", Version: "1"}, Launch: nucleus.Launch{Unit: "greengrass.service", Watch: []string{"greengrass.service"}}, Root: root}
		require.NoError(t, s.Use(t.Context(), spec, false))
		assert.Equal(t, protocol.NucleusRunning, said.last().State)
		assert.Equal(t, 7, said.last().PID)
		require.NoError(t, s.Restart(t.Context()))
		assert.Equal(t, 1, h.called("stop"))

		h.set(func(h *host) { h.active = false })
		require.Eventually(t, func() bool { return h.called("start") == 3 && said.last().State == protocol.NucleusRunning }, time.Minute, time.Millisecond, "what has ended is started again")
		h.set(func(h *host) { h.away = true })
		before := h.called("unanswered")
		require.Eventually(t, func() bool { return h.called("unanswered") > before+2 }, time.Minute, time.Millisecond)
		assert.Equal(t, protocol.NucleusRunning, said.last().State, "a systemd that does not answer says nothing about the nucleus")
		h.set(func(h *host) { h.away = false })
		spec.Intact = func(context.Context) error { return errors.New("another version") }
		require.ErrorIs(t, s.Use(t.Context(), spec, true), process.ErrUnproven)
		require.NoError(t, s.Stop(t.Context(), spec))
		assert.Equal(t, protocol.NucleusStopped, said.last().State)
		spec.Intact = nil
		require.NoError(t, s.Use(t.Context(), spec, false))
	})
	assert.True(t, h.active, "and after it")
	state, _ := last()
	assert.Equal(t, protocol.NucleusRunning, state)
}
