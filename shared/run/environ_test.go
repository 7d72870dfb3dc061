package run_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/ggfleet/ggfleet/shared/run"
)

func TestAProgramThatIsStartedDoesNotHearTheServiceManager(t *testing.T) {
	for _, name := range []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "WATCHDOG_OF_SOMEBODY"} {
		t.Setenv(name, "x")
	}
	env := run.Environ()
	assert.Contains(t, env, "WATCHDOG_OF_SOMEBODY=x")
	for _, name := range []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} {
		assert.NotContains(t, env, name+"=x")
	}
}
