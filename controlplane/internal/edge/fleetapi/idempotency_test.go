package fleetapi_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/edge/fleetapi"
	"github.com/ggfleet/ggfleet/controlplane/internal/edge/fleetapi/fleetapitest"
	"github.com/ggfleet/ggfleet/controlplane/internal/fleet"
	"github.com/ggfleet/ggfleet/controlplane/internal/once"
	"github.com/ggfleet/ggfleet/controlplane/internal/seal"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/controlplane/internal/state/memory"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// remembering has a store of answers behind it.
func remembering(t *testing.T) (func(*fleetapi.Config), state.Store) {
	t.Helper()
	records := memory.New()
	sealer, err := seal.New(make([]byte, seal.KeySize))
	require.NoError(t, err)
	store, err := once.New(once.Config{Store: records, Sealer: sealer})
	require.NoError(t, err)
	return func(c *fleetapi.Config) { c.Once = store }, records
}

func TestAPostWithAKeyIsAnsweredTwiceAndDoneOnce(t *testing.T) {
	with, records := remembering(t)
	h := start(t, with)
	key := []string{"Idempotency-Key", "order 66/ä"}
	assert.Equal(t, 400, h.call(t, "POST", "/tokens", `{"name":"a","role":"viewer"}`, key...).status, "the key is no header text")
	key[1] = "order-66"
	for name, c := range map[string]struct{ path, body, secret string }{
		"a token":       {"/tokens", `{"name":"dash","role":"viewer"}`, "text-of-dash"},
		"an access key": {"/accessKeys", `{}`, "secret/example+key"},
		"a thing":       {"/things", `{"provisioningTemplateId":"default","parameters":{"ThingName":"a"}}`, "key of a"},
		"a webhook":     {"/webhooks", `{"url":"https://a.example"}`, "made-secret-of-hook-1"},
		"an activation": {"/activations", `{"deviceId":"a"}`, "ggf1.example"},
		"a template":    {"/templates", templateBody, ""},
		"a core task":   {"/coreTasks", coreBody, ""},
		"a patch task":  {"/patchTasks", `{"patches":[{"deviceId":"a","patchTemplateName":"b"}]}`, ""},
		"a bulk task":   {"/bulkthings", `{"provisioningTemplateId":"default","parameters":[{}]}`, ""},
		"a device task": {"/cores/press-07/deviceTasks", `{"type":"Create","devices":[{"name":"d","provisioningTemplate":"p"}]}`, ""},
		"a patchable":   {"/patchTemplates", `{"name":"p","patchType":"agentbased","playbookFileContents":"LS0t"}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			key := []string{"Idempotency-Key", "order-" + c.path}
			first := h.call(t, "POST", c.path, c.body, key...)
			require.Less(t, first.status, 300, first.body)
			assert.Empty(t, first.header.Get("Idempotency-Replayed"))
			again := h.call(t, "POST", c.path, c.body, key...)
			assert.Equal(t, first.status, again.status)
			assert.Equal(t, first.body, again.body)
			assert.Contains(t, first.body, c.secret)
			assert.Equal(t, "true", again.header.Get("Idempotency-Replayed"))
			for _, header := range []string{"Location", "X-Taskid", "X-Name", "X-Version", "Etag", "Content-Type"} {
				assert.Equal(t, first.header.Get(header), again.header.Get(header), header)
			}
			plain := h.call(t, "POST", c.path, c.body, append(key, "Accept", "application/json")...)
			assert.Equal(t, "application/json", plain.header.Get("Content-Type"), "the answer is in the type asked for now")

			other := h.call(t, "POST", c.path, c.body+" ", key...)
			assert.Equal(t, 400, other.status, "another request")
			assert.Equal(t, "Idempotency-Key", other.json(t)["field"])

			p, err := records.List(t.Context(), state.Root+"once/", "", 0)
			require.NoError(t, err)
			require.NotEmpty(t, p.Entries)
			for _, e := range p.Entries {
				if c.secret != "" {
					assert.NotContains(t, string(e.Value), c.secret, "secrets are sealed")
				}
			}
		})
	}
	assert.Len(t, h.call(t, "GET", "/tokens", "").json(t)["tokens"], 1)
	assert.Len(t, h.call(t, "GET", "/accessKeys", "").json(t)["accessKeys"], 1)
	assert.Len(t, h.call(t, "GET", "/coreTasks", "").json(t)["tasks"], 1)
}

func TestKeysOfTwoTokensAreTwoKeys(t *testing.T) {
	with, _ := remembering(t)
	h := start(t, with)
	a := h.call(t, "POST", "/coreTasks", coreBody, "Idempotency-Key", "k")
	b := h.call(t, "POST", "/coreTasks", coreBody, "Idempotency-Key", "k", "Authorization", "Bearer "+fleetapitest.OperatorToken)
	require.Equal(t, 202, b.status, b.body)
	assert.NotEqual(t, a.header.Get("x-taskid"), b.header.Get("x-taskid"))
}

func TestAFailureIsNotRemembered(t *testing.T) {
	with, _ := remembering(t)
	h := start(t, with)
	for _, failure := range []error{fault.New(fault.Unavailable, "away"), fault.New(fault.Conflict, "busy")} {
		h.Fail = failure
		assert.GreaterOrEqual(t, h.call(t, "POST", "/coreTasks", coreBody, "Idempotency-Key", "k").status, 400)
	}
	h.Fail = nil
	a := h.call(t, "POST", "/coreTasks", coreBody, "Idempotency-Key", "k")
	assert.Equal(t, 202, a.status)
	assert.Empty(t, a.header.Get("Idempotency-Replayed"))

	panics := start(t, with, func(c *fleetapi.Config) { c.Templates = broken{} })
	for range 2 {
		assert.Equal(t, 500, panics.call(t, "POST", "/templates", templateBody, "Idempotency-Key", "panic").status)
	}
}

type templatesPort = fleetapi.Templates

// patient notes how long a request may be worked on.
type patient struct {
	templatesPort
	left time.Duration
}

func (p *patient) CreateTemplate(ctx context.Context, t fleet.NewTemplate) (fleet.Template, error) {
	if until, ok := ctx.Deadline(); ok {
		p.left = time.Until(until)
	}
	return p.templatesPort.CreateTemplate(ctx, t)
}

func TestWorkUnderAKeyEndsBeforeAnotherOneMayTakeItOver(t *testing.T) {
	with, _ := remembering(t)
	var p patient
	h := start(t, with, func(c *fleetapi.Config) {
		p.templatesPort = c.Templates
		c.Templates = &p
	})
	require.Equal(t, 201, h.call(t, "POST", "/templates", templateBody, "Idempotency-Key", "k").status)
	assert.Greater(t, p.left, 30*time.Second)
	assert.Less(t, p.left, time.Minute)
}

func TestTheSameRequestTwiceAtOnceIsDoneOnce(t *testing.T) {
	with, _ := remembering(t)
	h := start(t, with)
	var wg sync.WaitGroup
	statuses := make([]int, 8)
	for i := range statuses {
		wg.Go(func() {
			for {
				a := h.call(t, "POST", "/tokens", `{"name":"dash","role":"viewer"}`, "Idempotency-Key", "k")
				if statuses[i] = a.status; a.status != 409 {
					return
				}
				if a.header.Get("Retry-After") == "" {
					t.Error("409 without Retry-After")
				}
				time.Sleep(time.Millisecond)
			}
		})
	}
	wg.Wait()
	assert.Equal(t, []int{201, 201, 201, 201, 201, 201, 201, 201}, statuses, "a second creation would be refused: the name is taken")
}
