package device_test

import (
	"bufio"
	"context"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/test/internal/world"
)

// mosquitto runs mosquitto's clients as one device.
type mosquitto struct {
	ctx    context.Context
	common []string
	id     string
}

func newMosquitto(t *testing.T, w *world.World, core world.Core, version string) mosquitto {
	t.Helper()
	host, port, err := net.SplitHostPort(w.MQTT)
	require.NoError(t, err)
	cert, key := core.Files(t, t.TempDir())
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(cancel)
	return mosquitto{ctx, []string{"-h", host, "-p", port, "--cafile", w.CAFile, "--cert", cert, "--key", key, "-V", version, "-q", "1"}, core.Name}
}

// run runs a client to its end and returns what it printed.
func (m mosquitto) run(tool, session string, more ...string) (string, error) {
	out, err := m.command(tool, session, more...).CombinedOutput()
	return string(out), err
}

func (m mosquitto) command(tool, session string, more ...string) *exec.Cmd {
	return exec.CommandContext(m.ctx, tool, slices.Concat(m.common, []string{"-i", m.id + session}, more)...)
}

// subscriber is a running mosquitto_sub.
type subscriber struct {
	cmd   *exec.Cmd
	lines chan string
}

// subscribe returns once messages on the filter arrive. Piped, mosquitto_sub
// shows nothing but messages at once, so one on hello is sent until it is there.
func (m mosquitto) subscribe(t *testing.T, session, hello string, more ...string) *subscriber {
	t.Helper()
	s := &subscriber{cmd: m.command("mosquitto_sub", session, append(more, "-t", hello, "-F", "%t %q %p")...), lines: make(chan string, 100)}
	r, wr, err := os.Pipe()
	require.NoError(t, err)
	s.cmd.Stdout, s.cmd.Stderr = wr, wr
	require.NoError(t, s.cmd.Start())
	require.NoError(t, wr.Close())
	go func() {
		defer close(s.lines)
		for in := bufio.NewScanner(r); in.Scan(); {
			s.lines <- in.Text()
		}
		_ = r.Close()
	}()
	t.Cleanup(func() {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait() // the reader ends with the pipe
	})
	for {
		out, err := m.run("mosquitto_pub", "#9", "-t", hello, "-m", session)
		require.NoError(t, err, out)
		select {
		case line, ok := <-s.lines:
			require.True(t, ok, "mosquitto_sub ended")
			require.Equal(t, hello+" 1 "+session, line)
			return s
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// next is the next message, except hellos that came late.
func (s *subscriber) next(t *testing.T) string {
	t.Helper()
	limit := time.NewTimer(5 * time.Minute)
	defer limit.Stop()
	for {
		select {
		case line, ok := <-s.lines:
			require.True(t, ok, "mosquitto_sub ended")
			if !strings.Contains(line, "/hello") {
				return line
			}
		case <-limit.C:
			require.Fail(t, "mosquitto_sub says nothing")
		}
	}
}

func TestMosquittosClientsAreServed(t *testing.T) {
	for _, tool := range []string{"mosquitto_pub", "mosquitto_sub"} {
		_, err := exec.LookPath(tool)
		peer(t, err != nil, tool+" is not installed (Debian package mosquitto-clients)")
	}
	w := world.Start(t, world.Options{})
	cores := w.CreateCores(t, "press-1", "press-2")
	for _, version := range []string{"mqttv5", "mqttv311"} {
		t.Run(version, func(t *testing.T) {
			one, two := newMosquitto(t, w, cores[0], version), newMosquitto(t, w, cores[1], version)
			listener := one.subscribe(t, "#1", "press-1/hello/1", "-t", "press-1/+")

			out, err := one.run("mosquitto_pub", "#2", "-t", "press-1/strokes", "-m", "40")
			require.NoError(t, err, out)
			assert.Equal(t, "press-1/strokes 1 40", listener.next(t))

			t.Run("another device neither writes nor reads its topics", func(t *testing.T) {
				out, err := two.run("mosquitto_pub", "", "-t", "press-1/strokes", "-m", "99")
				if version == "mqttv5" {
					assert.Contains(t, out, "Not authorized")
				} else {
					assert.Error(t, err, out) // the connection ends: 3.1.1 has no other refusal
				}
				out, _ = two.run("mosquitto_sub", "", "-t", "press-1/#", "-W", "20")
				assert.Contains(t, out, "All subscription requests were denied")
				out, err = two.run("mosquitto_pub", "", "-i", "press-1", "-t", "press-2/x", "-m", "x")
				assert.Error(t, err, "another thing's client id: %s", out)
			})

			t.Run("its last will is published when it dies", func(t *testing.T) {
				dying := one.subscribe(t, "#3", "press-1/hello/3", "--will-topic", "press-1/gone", "--will-payload", "without a word", "--will-qos", "1")
				require.NoError(t, dying.cmd.Process.Kill())
				assert.Equal(t, "press-1/gone 1 without a word", listener.next(t))
				out, err := two.run("mosquitto_pub", "", "-t", "press-2/x", "-m", "x", "--will-topic", "press-1/gone", "--will-payload", "forged")
				assert.Error(t, err, "a will on another's topic: %s", out)
			})

			// What press-2 tried has not arrived in between.
			out, err = one.run("mosquitto_pub", "#2", "-t", "press-1/strokes", "-m", "41")
			require.NoError(t, err, out)
			assert.Equal(t, "press-1/strokes 1 41", listener.next(t))
		})
	}
	assert.Contains(t, w.Logs(), `"msg":"device denied"`)
}
