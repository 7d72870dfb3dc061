package jobs_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/etcdstore/etcdtest"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/jobs"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/names"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// crowd is connected, all of it, and counts what it is told.
type crowd struct{ told atomic.Int64 }

func (*crowd) Connected(string) bool { return true }

func (c *crowd) Notify(string, jobs.Message) int {
	c.told.Add(1)
	return 0
}

// BenchmarkAnnounce hands one job to 10,000 connected things that have asked for
// their next job before, and waits until each of them was told.
func BenchmarkAnnounce(b *testing.B) {
	const things, messages = 10_000, 4
	store := etcdtest.Open(b)
	s, err := jobs.New(jobs.Config{Store: store})
	require.NoError(b, err)
	c := &crowd{}
	a := jobs.NewAnnouncer(s, c)
	ctx, stop := context.WithCancel(b.Context())
	defer stop()
	go func() { _ = a.Run(ctx) }()
	list := make([]string, things)
	for i := range list {
		list[i] = fmt.Sprintf("core-%05d", i)
		_, err := a.Serve(ctx, list[i], protocol.JobGet(list[i], protocol.NextJob), nil)
		require.NoError(b, err)
	}
	doc := strings.Replace(document, `"components":{}`, `"components":{"com.example.App":{"version":"1.0.0","configurationUpdate":{"merge":{"text":"`+strings.Repeat("x", 2000)+`"}}}}`, 1)
	n := 0
	for b.Loop() {
		n++
		id := fmt.Sprint("job-", n)
		batch := state.NewBatch(state.StepDeployment)
		s.PutBatch(batch, jobs.Job{ID: id, Kind: names.TargetThingGroup, Target: "g", DeploymentID: id, Document: json.RawMessage(doc), CreatedAt: time.Now()})
		_, err := store.Commit(ctx, batch)
		require.NoError(b, err)
		job, err := s.Job(ctx, id)
		require.NoError(b, err)
		pack := jobs.Packer{Commit: func(b *state.Batch, _ []string) error {
			_, err := store.Commit(ctx, b)
			return err
		}}
		for from := 0; from < things; from += 500 {
			known, err := s.Known(ctx, job.Value, list[from:from+500])
			require.NoError(b, err)
			for _, t := range list[from : from+500] {
				part := state.NewBatch(state.StepExecutions)
				_, err := s.HandBatch(ctx, part, job, known[t])
				require.NoError(b, err)
				require.NoError(b, pack.Add(t, part))
			}
		}
		require.NoError(b, pack.Flush())
		for c.told.Load() < int64(n*things*messages) {
			time.Sleep(time.Millisecond)
		}
	}
}
