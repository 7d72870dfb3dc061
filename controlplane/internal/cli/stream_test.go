package cli_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/api"
	"github.com/ggfleet/ggfleet/controlplane/internal/cli"
	"github.com/ggfleet/ggfleet/controlplane/internal/event"
)

func TestEventsAreListed(t *testing.T) {
	o := newOperator(t)
	o.Tell(event.CoreCreated, "press-07", `{"coreName":"press-07","taskId":"t1","status":"success"}`)
	o.Tell(event.DeploymentTaskDeleted, "", `{"taskId":"t2","status":"failed","message":"no such core"}`)
	for line, want := range map[string]string{
		"events": `
SEQUENCE   TIME                       TYPE                           CORE               DETAIL
1          2026-03-02T08:00:00.120Z   Core Created Event             press-07           status=success taskId=t1
2          2026-03-02T08:00:00.120Z   DeploymentTask Deleted Event                      status=failed message=no such core taskId=t2`,
		"events --type deployment-task-deleted --after 1 -o json": `
{"detail":{"taskId":"t2","status":"failed","message":"no such core"},"detail-type":"DeploymentTask Deleted Event","id":"9b1deb4d-3b7d-4bad-9bdd-000000000002","sequence":2,"source":"com.aws.cdf.greengrass2-provisioning","time":"2026-03-02T08:00:00.120Z"}`,
		"events --limit 1 -o yaml": `
---
core: press-07
detail:
  coreName: press-07
  taskId: t1
  status: success
detail-type: Core Created Event
id: 9b1deb4d-3b7d-4bad-9bdd-000000000001
sequence: 1
source: com.aws.cdf.greengrass2-provisioning
time: "2026-03-02T08:00:00.120Z"`,
		"events --core nobody": "",
	} {
		got, err := o.run(t, line)
		require.NoError(t, err, line)
		assert.Equal(t, strings.TrimSpace(want), got, line)
	}
	_, err := o.run(t, "events --type core-maid")
	assert.Equal(t, cli.ExitUsage, cli.ExitCode(err))
}

// A scripted server of the stream: each connection gets the next answer.
type scripted struct {
	*httptest.Server
	mu   sync.Mutex // guards came
	came []string   // Last-Event-ID of each connection
}

func (s *scripted) connections() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.came)
}

func script(t *testing.T, answers ...func(http.ResponseWriter)) *scripted {
	t.Helper()
	s := &scripted{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		n := len(s.came)
		s.came = append(s.came, r.Header.Get("Last-Event-Id"))
		s.mu.Unlock()
		if n < len(answers) {
			answers[n](w)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func sends(text string) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, text)
	}
}

func refuses(status int, message string) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		w.WriteHeader(status)
		_, _ = fmt.Fprintf(w, `{"error":"refused","message":%q}`, message)
	}
}

func data(n int) string {
	return fmt.Sprintf("id: %d\nevent: Core Created Event\ndata: {\"id\":\"e%d\",\"sequence\":%d,\"detail-type\":\"Core Created Event\",\"detail\":{}}\n\n", n, n, n)
}

func TestAStreamGoesOnWhereItBroke(t *testing.T) {
	s := script(t,
		sends("retry: 3000\nid: 41\n\n"), // nothing happened yet
		sends(": still here\n\n"+data(42)+data(43)+"id: 44\ndata: {\"cut"),
		refuses(http.StatusServiceUnavailable, "not ready"),
		sends("event: error\ndata: {\"message\":\"an error on the server; connect again\"}\n\n"),
		sends(data(44)),
		refuses(http.StatusPreconditionFailed, "events before sequence 90 are no longer kept"),
	)
	o := operator{url: s.URL, dir: t.TempDir()}
	got, err := o.run(t, "events --follow -o json")
	require.ErrorContains(t, err, "no longer kept", "a gap is never silent")
	assert.Equal(t, cli.ExitFailed, cli.ExitCode(err))
	assert.Equal(t, []string{"", "41", "43", "43", "43", "44"}, s.connections())
	lines := strings.Split(got, "\n")
	require.Len(t, lines, 3)
	for i, l := range lines {
		assert.Contains(t, l, fmt.Sprintf(`"sequence":%d`, 42+i))
	}
}

func TestAStreamEndsAtItsLimit(t *testing.T) {
	s := script(t, sends(data(1)+data(2)+data(3)))
	got, err := operator{url: s.URL, dir: t.TempDir()}.run(t, "events --follow --after 0 --limit 2 -o json")
	require.NoError(t, err)
	assert.Len(t, strings.Split(got, "\n"), 2)
	assert.Equal(t, []string{"0"}, s.connections())
}

func TestAStreamThatNeverBeganIsNotTriedAgain(t *testing.T) {
	s := script(t, refuses(http.StatusUnauthorized, "send a valid token"))
	_, err := operator{url: s.URL, dir: t.TempDir()}.run(t, "events --follow")
	assert.Equal(t, cli.ExitDenied, cli.ExitCode(err))
	s.Close()
	_, err = operator{url: s.URL, dir: t.TempDir()}.run(t, "events --follow")
	assert.Equal(t, cli.ExitUnreachable, cli.ExitCode(err))
}

func FuzzEventStream(f *testing.F) {
	f.Add("retry: 3000\nid: 41\n\n" + data(42))
	f.Add(": still here\n\nid: x\nid\ndata\ndata: {\n\n")
	f.Add("event: error\ndata: \n\n")
	f.Add("id: 9223372036854775808\ndata: {}\n\n")
	f.Fuzz(func(t *testing.T, text string) {
		events := 0
		_, err := cli.ReadEvents(strings.NewReader(text), func(api.Event) error {
			events++
			return nil
		})
		if err == nil {
			t.Fatal("a stream without end has ended without an error")
		}
		if events > strings.Count(text, "data") {
			t.Fatalf("%d events of %q", events, text)
		}
	})
}
