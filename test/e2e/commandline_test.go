package e2e_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/test/internal/world"
)

// commandLine types commands of the program itself.
type commandLine struct {
	*testing.T
	bin  string
	env  []string
	here string
}

func newCommandLine(t *testing.T, w *world.World) commandLine {
	t.Helper()
	bin, err := world.Binary()
	require.NoError(t, err)
	return commandLine{t, bin, append(os.Environ(), "GGFLEET_SERVER="+w.API, "GGFLEET_DATA_DIR="+w.Dir, "GGFLEET_TOKEN="), t.TempDir()}
}

func (c commandLine) command(ctx context.Context, line string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, c.bin, strings.Fields(line)...)
	cmd.Env, cmd.Dir = c.env, c.here
	return cmd
}

// run requires the exit code and returns standard output, and standard error
// when the command fails.
func (c commandLine) run(code int, line string) string {
	c.Helper()
	ctx, cancel := context.WithTimeout(c.Context(), 5*time.Minute)
	defer cancel()
	var out, errs bytes.Buffer
	cmd := c.command(ctx, line)
	cmd.Stdout, cmd.Stderr = &out, &errs
	_ = cmd.Run() // its exit code is looked at
	require.Equal(c, code, cmd.ProcessState.ExitCode(), "ggfleet %s: %s%s", line, &out, &errs)
	if code != 0 {
		return errs.String()
	}
	return strings.TrimSpace(out.String())
}

func (c commandLine) file(name, content string) {
	c.Helper()
	require.NoError(c, os.WriteFile(filepath.Join(c.here, name), []byte(content), 0o600))
}

// TestTheWholeServiceFromTheCommandLine walks through what the commands can do,
// against a real server that is restarted while somebody follows its events.
func TestTheWholeServiceFromTheCommandLine(t *testing.T) {
	w := world.Start(t, world.Options{})
	s := seedServer{t, w.API, w.Token, w}
	c := newCommandLine(t, w)

	follow := c.command(t.Context(), "events --follow --after 0 --limit 6 -o json")
	events, err := follow.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, follow.Start())
	t.Cleanup(func() { _ = follow.Process.Kill() })

	c.run(0, "core create press-07 press-08 --idempotency-key shift-1") // events 1 and 2
	id := c.run(0, "core create press-07 press-08 --idempotency-key shift-1 --no-wait")
	assert.Contains(t, c.run(0, "core task "+id), "press-08")
	assert.Contains(t, c.run(0, "core tasks --limit 1"), id, "the same task, not a second one")
	s.powerOn("press-07")

	c.file("recipe.yaml", "RecipeFormatVersion: \"2020-01-25\"\nComponentName: com.example.Press\nComponentVersion: 1.0.0\nComponentPublisher: Example\nManifests: [{ Platform: { os: linux, runtime: \"*\" }, Lifecycle: { run: echo } }]\n")
	c.run(0, "component create recipe.yaml")
	assert.Equal(t, "line:1", c.run(0, "template create line --component com.example.Press=1.0.0"))
	assert.Equal(t, "line:2", c.run(0, "template update line --component com.example.Press=1.0.0 --if-match 1"))
	assert.Contains(t, c.run(1, "template update line --component com.example.Press=1.0.0 --if-match 1"), "read it again")

	w.Stop(t) // whoever follows goes on by itself
	w.Restart(t)

	// press-08 never connected: it fails, and is what a retry goes to.
	assert.Contains(t, c.run(6, "deploy create line --core press-07,press-08 --watch --rate 600 --abort-after FAILED:50:100"), "ended in Failure") // 3, 4, 5
	task := c.newest("deploy list", "deploymentTasks")
	assert.Contains(t, c.run(0, "deploy cores "+task+" --failed"), "press-08")
	assert.NotContains(t, c.run(0, "deploy cores "+task+" --failed"), "press-07")
	retry := c.run(0, "deploy retry "+task+" --no-wait")
	c.run(6, "deploy watch "+retry) // 6
	c.run(0, "deploy delete "+retry)
	c.run(3, "deploy get "+retry)
	assert.Contains(t, c.run(0, "core list"), "line:2")

	c.run(0, "device create gauge-1 gauge-2 --core press-07")
	assert.Contains(t, c.run(0, "device list --core press-07"), "gauge-2")
	c.run(0, "device delete gauge-1 --keep-thing")
	c.run(0, "thing get gauge-1")
	c.run(0, "device delete gauge-2 --core press-07")
	c.run(3, "thing get gauge-2")

	c.run(0, "thing provision gate-1 --out .")
	c.run(0, "thing certificates gate-1 --status INACTIVE")
	assert.Contains(t, c.run(0, "thing get gate-1"), "INACTIVE")
	assert.Contains(t, c.run(0, "ca show"), "acm-pca")

	c.run(0, "core delete press-08 --deprovision")
	assert.Contains(t, c.run(0, "core history press-07"), "Core Created Event")
	c.run(3, "core get press-08")

	var seen []int64
	for lines := bufio.NewScanner(events); lines.Scan(); {
		var e struct{ Sequence int64 }
		require.NoError(t, json.Unmarshal(lines.Bytes(), &e), "one envelope a line")
		seen = append(seen, e.Sequence)
	}
	require.NoError(t, follow.Wait())
	assert.Equal(t, []int64{1, 2, 3, 4, 5, 6}, seen, "each once, in order, over the restart")
}

// newest is the id of the first element of a list.
func (c commandLine) newest(line, member string) string {
	c.Helper()
	var list map[string]json.RawMessage
	require.NoError(c, json.Unmarshal([]byte(c.run(0, line+" --limit 1 -o json")), &list))
	var tasks []struct{ ID string }
	require.NoError(c, json.Unmarshal(list[member], &tasks))
	require.Len(c, tasks, 1)
	return tasks[0].ID
}
