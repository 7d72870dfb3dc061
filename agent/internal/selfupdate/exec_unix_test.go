//go:build unix

package selfupdate_test

import (
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/agent/internal/selfupdate"
)

func TestTheProgramThatComesNextHasTheProcessAndHearsWhatItIsTold(t *testing.T) {
	const role, told = "GGFLEET_TEST_OF_AGAIN", "GGFLEET_TEST_TOLD"
	if os.Getenv(role) != "" {
		if os.Getenv(told) == "" {
			fmt.Println("not replaced:", selfupdate.Again(told+"=stop"))
		}
		fmt.Println("process", os.Getpid(), os.Getenv(told))
		os.Exit(0)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), role+"=1")
	out, err := cmd.Output()
	require.NoError(t, err)
	assert.Equal(t, fmt.Sprintf("process %d stop\n", cmd.Process.Pid), string(out))
}
