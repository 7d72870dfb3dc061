package fault_test

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/test/internal/world"
)

func TestTheArtifactStoreGoesAwayInTheMiddleOfADeletion(t *testing.T) {
	t.Parallel()
	store := world.Start(t, world.Options{Flags: []string{"--s3-fsync=false"}})
	w := world.Start(t, world.Options{Flags: externalS3(t, store)})
	s := newStory(t, w)
	names := coreNames(200)
	s.succeeded(s.postCores(names), names)
	path := s.start("/coreTasks", "delete", object{
		"type": "Delete", "cores": named(names...), "options": object{"deprovisionCores": true, "deprovisionClientDevices": true},
	})
	s.progress(path, 20)
	store.Kill9(t)
	pause := time.NewTimer(3 * time.Second)
	defer pause.Stop()
	<-pause.C
	var task world.Task
	s.get(path, &task)
	assert.NotEqual(t, "Failure", task.Status)
	store.Restart(t)
	s.succeeded(path, names)
	s.finish()
	store.Stop(t)
	l := &ledger{w.Dump(t), objects(t, store.Dir)}
	assert.Empty(t, under[any](t, l, "iot/thing/"))
	assert.Empty(t, under[any](t, l, "iot/cert/"))
	assert.Empty(t, under[any](t, l, "fleet/core/"))
	for key := range l.objects {
		assert.False(t, strings.HasPrefix(key, "greengrass2/artifacts/"), "%s is left", key)
	}
	l.tasks(t, map[string]int{"core": 2})
}

// A replica dies while a paced rollout makes joins and a webhook is told of them.
func TestAReplicaDiesInTheMiddleOfARolloutAndOfItsEvents(t *testing.T) {
	t.Parallel()
	const perMinute = 300
	db := startEtcd(t)
	store := world.Start(t, world.Options{Flags: []string{"--s3-fsync=false"}})
	flags := append(externalS3(t, store), "--etcd-endpoints="+db.endpoint, "--seal-key-file="+filepath.Join(t.TempDir(), "seal.key"))
	first := world.Start(t, world.Options{Flags: flags})
	second := world.Start(t, world.Options{Flags: flags})
	token := strings.TrimSpace(string(tokenOf(t, first, second)))
	first.Token, second.Token = token, token
	one, two := newStory(t, first), newStory(t, second)
	one.subscribe()
	one.component("com.example.Tool", "1.0.0")
	one.template("press", 1, "com.example.Tool")
	names := coreNames(40)
	one.succeeded(one.postCores(names), names)

	begun := time.Now()
	path := one.start("/deploymentTasks", "paced", deployment("press", 1, names, object{"preStage": true, "iotJobConfig": rate(perMinute)}))
	rollout := func(s *story) (n int) {
		var task struct{ Rollout struct{ Notified int } }
		s.get(path, &task)
		return task.Rollout.Notified
	}
	one.until(func() string {
		if n := rollout(one); n < 10 {
			return fmt.Sprintf("%d cores were deployed to", n)
		}
		return ""
	})
	first.Kill9(t)
	two.done(path, "Success")
	assert.GreaterOrEqual(t, time.Since(begun), time.Duration(len(names)-2)*time.Minute/perMinute, "faster than the pace")
	assert.Equal(t, len(names), rollout(two))
	want := 2 * len(names) // created, and named by the deployment task
	two.until(func() string {
		if n := one.receiver.told(); n < want {
			return fmt.Sprintf("%d of %d events were told", n, want)
		}
		return ""
	})
	two.finish()
	l := &ledger{second.Dump(t), nil}
	store.Stop(t)
	one.receiver.audit(t, l.events(t), 1)
	l.tasks(t, map[string]int{"core": 1, "deployment": 1})
	pending := under[struct{ Number int }](t, l, "jobs/execution/pending/")
	require.Len(t, pending, len(names), "executions")
	for key, e := range pending {
		assert.LessOrEqual(t, e.Number, 1, "%s was notified again", key)
	}
	_, err := first.Do(t.Context(), http.MethodGet, "/healthz", nil)
	require.Error(t, err, "the first replica is dead")
}
