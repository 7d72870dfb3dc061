package task

import (
	"context"
	"fmt"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// chunk is how much of a blob one record holds; JSON makes a third more of it.
const chunk = 256 << 10

func blobRoot(id string) string       { return root + "blob/" + id + "/" }
func blobKey(id string, n int) string { return blobRoot(id) + fmt.Sprintf("%04d", n) }

// Blob returns what was given to Create as NewTask.Blob, nil if nothing was. It is
// fault.NotFound if the task is not there.
func (e *Engine) Blob(ctx context.Context, id string) ([]byte, error) {
	rec, err := e.record(ctx, id)
	if err != nil || rec.Value.Blob == 0 {
		return nil, err
	}
	blob := make([]byte, 0, rec.Value.Blob)
	err = state.All(ctx, e.store, blobRoot(id), func(_ string, r state.Record[[]byte]) error {
		blob = append(blob, r.Value...)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read blob of task %s: %w", id, err)
	}
	if len(blob) != rec.Value.Blob { // it was deleted while we read
		return nil, fault.New(fault.NotFound, "there is no task %q", id)
	}
	return blob, nil
}

// blobCommits are the writes of a blob.
func blobCommits(id string, blob []byte) (commits []*state.Batch) {
	for n := 0; n*chunk < len(blob); n++ {
		part := blob[n*chunk : min((n+1)*chunk, len(blob))]
		commits = append(commits, state.NewBatch(state.StepTaskItems).Put(blobKey(id, n), part))
	}
	return commits
}
