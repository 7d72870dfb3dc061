package fault_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/test/internal/world"
)

const mediaType = "application/vnd.aws-cdf-v1.0+json"

// story is an operator who works on a control plane that may be killed at any
// moment: what was not answered is asked again, with the same idempotency key.
// After a kill the control plane is started again.
type story struct {
	t      *testing.T
	w      *world.World
	client *http.Client
	env    []string // of every process
	points []string // where the next processes are to die, one each; the last ones live
	kills  int
	fleet  *cores // nil: no core runs

	receiver *receiver // nil: nobody is told of events
}

func newStory(t *testing.T, w *world.World) *story {
	return &story{t: t, w: w, client: &http.Client{Timeout: 5 * time.Minute, Transport: &http.Transport{}}}
}

// begin starts the control plane, which may be killed before it is ready.
func (s *story) begin() {
	s.t.Helper()
	for {
		env := s.env
		if len(s.points) > 0 {
			env = append(slices.Clone(env), "GGFLEET_FAULT="+s.points[0])
			s.points = s.points[1:]
		}
		err := s.w.TryStart(env...)
		for err != nil && s.w.Token == "" && strings.Contains(err.Error(), "is taken by another process") {
			s.w.NewPorts(s.t)
			err = s.w.TryStart(env...)
		}
		if err == nil {
			return
		}
		require.ErrorContains(s.t, err, "signal: killed")
		s.kills++
	}
}

// revive starts the control plane again if err, which a request met, comes from
// a kill.
func (s *story) revive(err error) {
	s.t.Helper()
	exit := s.w.WaitExit(s.t)
	require.ErrorContains(s.t, exit, "signal: killed", "a request failed, but nobody killed the process: %v", err)
	s.kills++
	s.client.CloseIdleConnections()
	s.begin()
}

// ask sends a request once. An error means that no answer came.
func (s *story) ask(method, path, key string, body any) (world.Answer, error) {
	kind, content := mediaType, []byte(nil)
	switch b := body.(type) {
	case nil:
	case world.YAML:
		kind, content = "application/yaml", b
	case []byte:
		kind, content = "application/octet-stream", b
	default:
		var err error
		content, err = json.Marshal(b)
		require.NoError(s.t, err)
	}
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.w.API+path, bytes.NewReader(content))
	require.NoError(s.t, err)
	req.Header.Set("Authorization", "Bearer "+s.w.Token)
	req.Header.Set("Content-Type", kind)
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	res, err := s.client.Do(req)
	if err != nil {
		return world.Answer{}, err
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	return world.Answer{Status: res.StatusCode, Header: res.Header, Body: b}, err
}

// insist sends a request until it is answered.
func (s *story) insist(method, path, key string, body any) world.Answer {
	s.t.Helper()
	for {
		a, err := s.ask(method, path, key, body)
		if err == nil {
			return a
		}
		s.revive(err)
	}
}

// get reads a JSON answer of status 200.
func (s *story) get(path string, out any) {
	s.t.Helper()
	a := s.insist(http.MethodGet, path, "", nil)
	require.Equal(s.t, http.StatusOK, a.Status, "GET %s: %s", path, a.Body)
	require.NoError(s.t, json.Unmarshal(a.Body, out))
}

// until asks check until it has nothing to complain of.
func (s *story) until(check func() string) {
	s.t.Helper()
	world.Eventually(s.t, check)
}

// component makes a component version with one artifact.
func (s *story) component(name, version string) {
	s.t.Helper()
	recipe := fmt.Sprintf(`{"RecipeFormatVersion":"2020-01-25","ComponentName":%q,"ComponentVersion":%q,"Manifests":[{"Platform":{"os":"linux","runtime":"*"},
		"Lifecycle":{"run":"sleep 1"},"Artifacts":[{"Uri":"greengrass:tool.sh"}]}]}`, name, version)
	a := s.insist(http.MethodPost, "/components", "", world.YAML(recipe))
	if a.Status != http.StatusCreated { // a kill took the answer of the first attempt
		require.Equal(s.t, http.StatusConflict, a.Status, "%s", a.Body)
		require.Positive(s.t, s.kills)
	}
	a = s.insist(http.MethodPut, "/components/"+name+"/versions/"+version+"/artifacts/tool.sh", "", []byte("#!/bin/sh\n"+version))
	require.Equal(s.t, http.StatusOK, a.Status, "%s", a.Body)
}

// template makes a template version. The call has no idempotency key, so that
// after a kill the operator looks first.
func (s *story) template(name string, version int, component string) {
	s.t.Helper()
	body := map[string]any{"name": name, "components": []any{map[string]any{"key": component, "version": strconv.Itoa(version) + ".0.0"}}}
	for {
		method, path := http.MethodPost, "/templates"
		if version > 1 {
			method, path = http.MethodPut, "/templates/"+name
		}
		a, err := s.ask(method, path, "", body)
		if err == nil {
			require.Equal(s.t, 2, a.Status/100, "%s", a.Body)
			require.Equal(s.t, strconv.Itoa(version), a.Header.Get("x-version"))
			return
		}
		s.revive(err)
		if s.insist(http.MethodGet, fmt.Sprintf("/templates/%s/versions/%d", name, version), "", nil).Status == http.StatusOK {
			return
		}
	}
}

// task posts a task until it is acknowledged. What a request that was not
// answered left behind must be a whole task or none; what was acknowledged must
// be there.
func (s *story) task(path, key string, body any, whole func(world.Task) string) string {
	s.t.Helper()
	for {
		a, err := s.ask(http.MethodPost, path, key, body)
		if err != nil {
			s.revive(err)
			s.allWhole(path, whole)
			continue
		}
		require.Equal(s.t, http.StatusAccepted, a.Status, "%s", a.Body)
		s.allWhole(path, whole)
		return a.Header.Get("Location")
	}
}

func (s *story) allWhole(path string, whole func(world.Task) string) {
	s.t.Helper()
	var list struct {
		Tasks           []world.Task `json:"tasks"`
		DeploymentTasks []world.Task `json:"deploymentTasks"`
	}
	s.get(path, &list)
	for _, head := range append(list.Tasks, list.DeploymentTasks...) {
		var one world.Task
		s.get(path+"/"+head.ID, &one)
		require.Empty(s.t, whole(one), "task %s", one.ID)
	}
}

// ended waits for a task's end and returns it.
func (s *story) ended(path string) world.Task {
	s.t.Helper()
	var task world.Task
	s.until(func() string {
		task = world.Task{}
		s.get(path, &task)
		if task.Status == "Success" || task.Status == "Failure" {
			return ""
		}
		return path + " is " + task.Status
	})
	return task
}

// create creates cores by one task and waits for its end.
func (s *story) create(names []string) {
	s.t.Helper()
	path := s.task("/coreTasks", "create", world.NewCores(names...), func(t world.Task) string {
		if len(t.Cores) == len(names) {
			return ""
		}
		return fmt.Sprintf("has %d cores of %d", len(t.Cores), len(names))
	})
	task := s.ended(path)
	require.Equal(s.t, "Success", task.Status, "%+v", task)
	for _, c := range task.Cores {
		// A retry that found the core registered would say so.
		assert.Equal(s.t, world.TaskItem{Name: c.Name, Status: "Success"}, c)
	}
}

// deploy deploys a template version to cores, waits until all have reported and
// returns the path of the task.
func (s *story) deploy(template string, version int, names []string, more object) string {
	s.t.Helper()
	path := s.start("/deploymentTasks", fmt.Sprintf("deploy-%d-%d", version, len(names)), deployment(template, version, names, more))
	s.done(path, "Success")
	for _, d := range s.reported(path, len(names)).Deployments {
		assert.Empty(s.t, d.Message)
	}
	return path
}

// reported waits until so many cores of a deployment task have reported success.
func (s *story) reported(path string, n int) world.Task {
	s.t.Helper()
	var task world.Task
	s.until(func() string {
		task = world.Task{}
		s.get(path, &task)
		done, waits := 0, ""
		for _, d := range task.Deployments {
			if d.DeploymentStatus == "Success" {
				done++
			} else {
				waits = d.CoreName
			}
		}
		if done == n {
			return ""
		}
		missing := fmt.Sprintf("%s is %s, %d of %d cores are done", path, task.Status, done, n)
		if waits != "" {
			missing += "; what happened on " + waits + ":\n" + s.fleet.history(waits)
		}
		return missing
	})
	return task
}

// healthy waits until all cores have said that they are healthy.
func (s *story) healthy(names []string) {
	s.t.Helper()
	for _, name := range names {
		s.until(func() string {
			var c world.CoreState
			s.get("/cores/"+name, &c)
			if c.Device.Status == "HEALTHY" && c.Device.Connected {
				return ""
			}
			return name + " is " + c.Device.Status
		})
	}
}

// finish stops the control plane in order; one that is killed on its way out is
// started and stopped again.
func (s *story) finish() {
	s.t.Helper()
	for {
		s.w.Signal(s.t, syscall.SIGTERM)
		err := s.w.WaitExit(s.t)
		if err == nil {
			return
		}
		require.ErrorContains(s.t, err, "signal: killed")
		s.kills++
		s.begin()
	}
}

func coreNames(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("core-%04d", i)
	}
	return names
}

// background is a context that ends when the test does, not before its cleanups.
func background(t *testing.T) (context.Context, context.CancelFunc) {
	return context.WithCancel(context.WithoutCancel(t.Context()))
}
