package fleetapi

import (
	"context"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/event"
	"github.com/ggfleet/ggfleet/controlplane/internal/once"
	"github.com/ggfleet/ggfleet/controlplane/internal/patching"
	"github.com/ggfleet/ggfleet/controlplane/internal/provisioning"
)

// Things is the Provisioning service (spec cdf-services §4.2).
type Things interface {
	Provision(ctx context.Context, n provisioning.NewThing) (provisioning.Provisioned, error)
	Thing(ctx context.Context, name string) (cloud.ThingDetail, error)
	Delete(ctx context.Context, name string) error
	SetCertificates(ctx context.Context, name string, s cloud.CertificateStatus) error
	// CreateBulk treats idempotencyKey like Cores.CreateCoreTask.
	CreateBulk(ctx context.Context, n provisioning.NewBulk, idempotencyKey string) (taskID string, _ error)
	Bulk(ctx context.Context, taskID string) (provisioning.Bulk, error)
}

// Patches is what the edge needs of the service that patches devices. next is
// the After of the following page, "" on the last.
type Patches interface {
	CreateTemplate(ctx context.Context, n patching.NewTemplate) (patching.Template, error)
	// UpdateTemplate returns fault.Stale if ifVersion is set and not the latest.
	UpdateTemplate(ctx context.Context, name string, c patching.TemplateChange, ifVersion int) (patching.Template, error)
	Template(ctx context.Context, name string) (patching.Template, error)
	Templates(ctx context.Context, p patching.Page) (_ []patching.Template, next string, _ error)
	DeleteTemplate(ctx context.Context, name string, ifVersion int) error
	// CreateTask treats idempotencyKey like Cores.CreateCoreTask.
	CreateTask(ctx context.Context, t patching.NewTask, idempotencyKey string) (id string, _ error)
	Task(ctx context.Context, id string) (patching.Task, error)
	TaskPatches(ctx context.Context, id string, p patching.Page) (_ []patching.Patch, next string, _ error)
	Patch(ctx context.Context, id string) (patching.Patch, error)
	DevicePatches(ctx context.Context, device string, f patching.Filter, p patching.Page) (_ []patching.Patch, next string, _ error)
	RetryPatch(ctx context.Context, id string, r patching.Retry) error
	DeletePatch(ctx context.Context, id string) error
}

// Events is the log of what happened.
type Events interface {
	// List returns up to count events after a sequence number; next is what to ask
	// after for the next page, 0 when there is none. fault.Stale when what follows
	// after is no longer kept; event.Oldest begins with what is.
	List(ctx context.Context, f event.Filter, after int64, count int) (_ []event.Event, next int64, _ error)
	// Bounds returns the sequence numbers of the oldest and the newest event; both
	// are 0 when there is none.
	Bounds(ctx context.Context) (first, last int64, _ error)
	// Stream calls handle with what follows after, and then with what happens,
	// until ctx is done or handle fails. fault.Stale like List.
	Stream(ctx context.Context, f event.Filter, after int64, handle func([]event.Event) error) error
	// History returns the newest first. after is the next of the page before.
	History(ctx context.Context, core, after string, count int) (_ []event.Event, next string, _ error)
}

// Webhooks manages who is told of events.
type Webhooks interface {
	// CreateWebhook returns the secret, which nobody can read again; it makes one
	// when none is given.
	CreateWebhook(ctx context.Context, n event.NewWebhook) (_ event.Webhook, secret string, _ error)
	Webhook(ctx context.Context, id string) (event.Webhook, error)
	Webhooks(ctx context.Context) ([]event.Webhook, error)
	// UpdateWebhook returns fault.Stale if ifVersion is set and not the current
	// one.
	UpdateWebhook(ctx context.Context, id string, u event.WebhookUpdate, ifVersion int) (event.Webhook, error)
	DeleteWebhook(ctx context.Context, id string, ifVersion int) error
	// DeadLetters returns those after a sequence number; next as in Events.List.
	DeadLetters(ctx context.Context, id string, after int64, count int) (_ []event.DeadLetter, next int64, _ error)
	Replay(ctx context.Context, id string, r event.ReplayRequest) error
}

// Once remembers answers (package once).
type Once interface {
	// Begin returns the answer that r got before, or, when it is to be carried
	// out now, a ticket. fault.Conflict while the same request is carried out,
	// fault.Invalid if the key was used for another one.
	Begin(ctx context.Context, r once.Request) (*once.Answer, *once.Ticket, error)
	// Finish keeps the answer.
	Finish(ctx context.Context, t *once.Ticket, a once.Answer) error
	// Forget lets the request be carried out again.
	Forget(ctx context.Context, t *once.Ticket) error
}
