package jobs_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/jobs"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/names"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

func TestTheStampIsSetWhereItBelongsWhateverTheDocumentSays(t *testing.T) {
	k := newKit(t, t.Context())
	tricky := `"creationTimestamp":0`
	doc, err := json.Marshal(protocol.DeploymentDocument{
		DeploymentID: "d", DeploymentName: tricky, ConfigurationARN: "arn",
		Components: map[string]protocol.DocumentComponent{tricky: {Version: "1.0.0", ConfigurationUpdate: &protocol.DocumentConfiguration{Merge: []byte(`{"creationTimestamp":0}`)}}},
	})
	require.NoError(t, err)
	b := state.NewBatch(state.StepDeployment)
	k.jobs.PutBatch(b, jobs.Job{ID: "j", Kind: names.TargetThingGroup, Target: "g", DeploymentID: "d", Document: doc})
	k.commit(b)
	for _, thing := range []string{"first", "second"} { // the second is served from what is kept
		e := k.start("j", thing, false)
		k.pass(time.Second)
		var want protocol.DeploymentDocument
		require.NoError(t, json.Unmarshal(doc, &want))
		want.CreationTimestamp = e.Stamp
		assert.Equal(t, want, read[protocol.DeploymentDocument](t, k.next(thing).Execution.JobDocument))
	}
}
