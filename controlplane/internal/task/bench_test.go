package task_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/etcdstore/etcdtest"
	"github.com/ggfleet/ggfleet/controlplane/internal/task"
)

// BenchmarkTenThousandItems measures the engine alone over embedded etcd: each
// item is one commit of an effect and a result.
func BenchmarkTenThousandItems(b *testing.B) {
	s := etcdtest.Open(b)
	e := engine(b, s, work(func(ctx context.Context, w *task.Work) error {
		return w.Finish(ctx, nil, task.Result{Status: task.Success})
	}))
	start(b, e)
	list := items(10_000)
	var accept time.Duration
	for b.Loop() {
		began := time.Now()
		tk, err := e.Create(b.Context(), task.NewTask{Kind: "work", Items: list})
		require.NoError(b, err)
		accept += time.Since(began)
		await(b, e, tk.ID)
	}
	b.ReportMetric(float64(len(list)*b.N)/b.Elapsed().Seconds(), "items/s")
	b.ReportMetric(accept.Seconds()/float64(b.N)*1000, "accept-ms")
}
