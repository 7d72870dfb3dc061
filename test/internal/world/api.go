package world

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// YAML is a request body in YAML, such as a recipe.
type YAML []byte

// Answer is one answer of the fleet API, read whole.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

const maxAnswer = 64 << 20

// Do sends one request to the fleet API with the admin's token. The body is nil,
// YAML, []byte (sent as bytes), or anything that becomes JSON. An error means
// that no answer came.
func (w *World) Do(ctx context.Context, method, path string, body any) (Answer, error) {
	kind, content := "application/vnd.aws-cdf-v1.0+json", []byte(nil)
	switch b := body.(type) {
	case nil:
	case YAML:
		kind, content = "application/yaml", b
	case []byte:
		kind, content = "application/octet-stream", b
	default:
		var err error
		if content, err = json.Marshal(b); err != nil {
			return Answer{}, fmt.Errorf("body of %s %s: %w", method, path, err)
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, w.API+path, bytes.NewReader(content))
	if err != nil {
		return Answer{}, err
	}
	req.Header.Set("Authorization", "Bearer "+w.Token)
	if body != nil {
		req.Header.Set("Content-Type", kind)
	}
	res, err := w.client.Do(req)
	if err != nil {
		return Answer{}, err
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	return Answer{res.StatusCode, res.Header, b}, err
}

// Call is Do for requests that must succeed; a JSON answer is read into out
// unless that is nil.
func (w *World) Call(t testing.TB, method, path string, body, out any) Answer {
	t.Helper()
	a, err := w.Do(t.Context(), method, path, body)
	require.NoError(t, err)
	require.Equal(t, 2, a.Status/100, "%s %s: status %d: %s", method, path, a.Status, a.Body)
	if out != nil {
		require.NoError(t, json.Unmarshal(a.Body, out), "%s %s: %s", method, path, a.Body)
	}
	return a
}

// patience is how long anything may take that must happen: a machine may be slow
// and busy with other tests, so that nothing is told from how long it took.
const patience = 5 * time.Minute

// Eventually asks until check agrees, for at most five minutes. The check returns
// what is still missing, or an empty text.
func Eventually(t testing.TB, check func() string) {
	t.Helper()
	Within(t, patience, check)
}

// Within is Eventually for at most d.
func Within(t testing.TB, d time.Duration, check func() string) {
	t.Helper()
	limit := time.NewTimer(d)
	defer limit.Stop()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for {
		missing := check()
		if missing == "" {
			return
		}
		select {
		case <-again.C:
		case <-t.Context().Done():
			require.Fail(t, "the test ended", missing)
		case <-limit.C:
			require.Fail(t, "waited "+d.String()+" in vain", missing)
		}
	}
}

// Task is what tells how a core task or a deployment task goes.
type Task struct {
	ID          string     `json:"id"`
	Status      string     `json:"taskStatus"`
	Message     string     `json:"statusMessage"`
	Cores       []TaskItem `json:"cores"`       // of a core task
	Deployments []TaskItem `json:"deployments"` // of a deployment task
}

// TaskItem is the result for one core.
type TaskItem struct {
	Name             string `json:"name"`
	CoreName         string `json:"coreName"`
	Status           string `json:"taskStatus"`
	Message          string `json:"statusMessage"`
	DeploymentStatus string `json:"deploymentStatus"`
}

// WaitTask waits until the task at path (its Location) has ended.
func (w *World) WaitTask(t testing.TB, path string) Task {
	t.Helper()
	var task Task
	Eventually(t, func() string {
		task = Task{}
		w.Call(t, http.MethodGet, path, nil, &task)
		if task.Status == "Success" || task.Status == "Failure" {
			return ""
		}
		return path + " is " + task.Status
	})
	return task
}
