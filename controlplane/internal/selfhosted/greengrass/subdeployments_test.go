package greengrass_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/greengrass"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

func TestSubDeployments(t *testing.T) {
	k := newKit(t, t.Context(), "failed", "fine")
	k.groups("parent", "retry", "other", "plain", "second")
	sub := func(target, parent string) greengrass.NewDeployment {
		n := group(target, "1.0.1")
		n.Parent = parent
		return n
	}
	refused := func(n greengrass.NewDeployment, kind error, about string) {
		t.Helper()
		_, err := k.Create(t.Context(), n)
		require.ErrorIs(t, err, kind)
		var r *greengrass.ResourceError
		require.ErrorAs(t, err, &r)
		assert.Equal(t, about, r.ID)
		assert.Equal(t, "thinggroup", r.Type)
	}
	refused(sub("retry", "parent"), fault.NotFound, "parent") // it has no deployment yet
	refused(sub("retry", "none"), fault.NotFound, "none")
	first := k.create(group("parent", "1.0.0"))
	k.create(group("plain", "1.0.0"))
	k.create(group("second", "1.0.0"))
	refused(sub("plain", "parent"), fault.Conflict, "plain") // it has a deployment of its own

	k.regroup("failed", "parent", "retry")
	d := k.create(sub("retry", "parent"))
	assert.Equal(t, 1, d.Revision)
	assert.Equal(t, []string{first.JobID, d.JobID}, k.jobIDs("failed"))
	assert.Equal(t, greengrass.StatusActive, k.status(first.ID), "the parent's own goes on")
	refused(sub("retry", "second"), fault.Conflict, "retry")  // used with another parent
	refused(group("retry", "1.0.0"), fault.Conflict, "retry") // it has sub-deployments
	refused(sub("other", "retry"), fault.Conflict, "retry")   // that is no parent
	assert.Equal(t, "parent", d.Parent)

	j, err := k.jobs.Job(t.Context(), d.JobID)
	require.NoError(t, err)
	var doc protocol.DeploymentDocument
	require.NoError(t, json.Unmarshal(j.Value.Document, &doc))
	const parent = "arn:aws:iot:us-east-1:000000000000:thinggroup/parent"
	assert.Equal(t, parent, doc.ParentTargetARN)
	assert.Equal(t, parent, doc.OnBehalfOf)
	assert.Equal(t, []string{"SUB_DEPLOYMENTS"}, doc.RequiredCapabilities)
	assert.Equal(t, "arn:aws:greengrass:us-east-1:000000000000:configuration:thinggroup/retry:1", doc.ConfigurationARN)

	another := k.create(sub("other", "parent"))
	second := k.create(sub("retry", "parent"))
	assert.Equal(t, 2, second.Revision)
	assert.Equal(t, greengrass.StatusInactive, k.status(d.ID))
	next := k.create(group("parent", "2.0.0"))
	k.drive()
	for _, id := range []string{first.ID, second.ID, another.ID} {
		assert.Equal(t, greengrass.StatusInactive, k.status(id), "a new revision of the parent replaces all")
	}
	assert.Equal(t, []string{next.JobID}, k.jobIDs("failed"))
	assert.Empty(t, k.move("fine", "retry", false).JobID, "who joins a replaced sub-deployment's group gets nothing")
	assert.Equal(t, 3, k.create(sub("retry", "parent")).Revision)
	assert.Equal(t, greengrass.StatusActive, k.status(next.ID))
}

func TestThereIsRoomForTenSubDeployments(t *testing.T) {
	k := newKit(t, t.Context())
	k.groups("parent")
	k.create(group("parent", "1.0.0"))
	for i := range 11 {
		name := fmt.Sprint("retry", i)
		k.groups(name)
		n := group(name, "1.0.0")
		n.Parent = "parent"
		_, err := k.Create(t.Context(), n)
		if i == 10 {
			require.ErrorIs(t, err, fault.Conflict)
			break
		}
		require.NoError(t, err)
	}
	again := group("retry0", "2.0.0")
	again.Parent = "parent"
	k.create(again)                    // the next revision of one of the ten
	k.create(group("parent", "2.0.0")) // one commit ends them all
}
