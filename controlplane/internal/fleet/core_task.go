package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/event"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/controlplane/internal/task"
	"github.com/ggfleet/ggfleet/installer/config"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
)

// Names of the kinds of task. They are stored with each task.
const (
	kindCore       = "core"
	kindDeployment = "deployment"
)

// coreBatch is how many cores a worker claims at once.
const coreBatch = 100

// coreTaskSpec is what a core task keeps of its request.
type coreTaskSpec struct {
	Type        string          `json:"type"`
	CoreVersion string          `json:"coreVersion"`
	Options     json.RawMessage `json:"options,omitempty"`
}

// core is the kind of task that creates and deletes cores (cdf-services §3.4,
// §3.5): one kind, so that one list has both.
func (s *Service) core() task.Kind {
	return task.Kind{Name: kindCore, Do: s.doCore, Failed: s.coreFailed}
}

func (s *Service) doCore(ctx context.Context, w *task.Work) error {
	var spec coreTaskSpec
	if err := w.Task.Decode(&spec); err != nil {
		return err
	}
	if spec.Type != CoreTaskDelete {
		return s.orNothing(ctx, w.Item.Name, s.createCore(ctx, w, spec))
	}
	o, err := deleteOptions(spec.Options, optionCores, optionDevices)
	if err != nil {
		return err
	}
	return s.deleteCore(ctx, w, o)
}

// coreFailed tells of a core whose item failed.
func (s *Service) coreFailed(_ context.Context, t task.Task, i task.Item, message string, b *state.Batch) error {
	var spec coreTaskSpec
	if err := t.Decode(&spec); err != nil {
		return err
	}
	what := event.CoreCreated
	if spec.Type == CoreTaskDelete {
		what = event.CoreDeleted
	}
	tell(b, what, &task.Work{Task: t, Item: i}, task.Result{Status: task.Failure, Message: message}, s.stamp())
	return nil
}

// CreateCoreTask checks the request, stores the task and returns its id. The
// provisioning template is looked at by the task: an unknown one ends the item
// as Failure (cdf-services §2.2 E8). A task of type Delete needs names and options
// only, and stores nothing else (W-44).
func (s *Service) CreateCoreTask(ctx context.Context, n NewCoreTask, idempotencyKey string) (string, error) {
	if err := checkCoreTask(n); err != nil {
		return "", err
	}
	items := make([]task.NewItem, len(n.Cores))
	seen := make(map[string]int, len(n.Cores))
	for i, c := range n.Cores {
		at := fmt.Sprintf("cores[%d]", i)
		if err := s.checkNewCore(n.Type, c); err != nil {
			return "", fault.Under(at, err)
		}
		if j, dup := seen[c.Name]; dup {
			return "", fault.Field(at+".name", "%q stands at cores[%d] already", c.Name, j)
		}
		seen[c.Name] = i
		items[i] = task.NewItem{Name: c.Name}
		if n.Type == CoreTaskCreate {
			items[i].Spec = c
		}
	}
	t, err := s.tasks.Create(ctx, task.NewTask{
		Kind: kindCore, Spec: coreTaskSpec{Type: n.Type, CoreVersion: n.CoreVersion, Options: present(n.Options)},
		Items: items, BatchSize: coreBatch, IdempotencyKey: idempotencyKey,
	})
	return t.ID, err
}

func checkCoreTask(n NewCoreTask) error {
	switch n.Type {
	case CoreTaskCreate:
		if n.CoreVersion == "" {
			return fault.Field("coreVersion", "is missing, want the nucleus version of the cores")
		}
	case CoreTaskDelete:
		if _, err := deleteOptions(n.Options, optionCores, optionDevices); err != nil {
			return err
		}
	default:
		return fault.Field("type", "is %q, want %s or %s", n.Type, CoreTaskCreate, CoreTaskDelete)
	}
	if len(n.CoreVersion) > 64 {
		return fault.Field("coreVersion", "has %d bytes, over the limit of 64", len(n.CoreVersion))
	}
	if len(n.Cores) == 0 {
		return fault.Field("cores", "is empty, want at least one core")
	}
	return nil
}

func (s *Service) checkNewCore(kind string, c NewCore) error {
	if err := names.CheckThing(c.Name); err != nil {
		return fault.Field("name", "%s", fault.Message(err))
	}
	if kind == CoreTaskDelete {
		return nil
	}
	if err := names.CheckProvisioningTemplate(c.ProvisioningTemplate); err != nil {
		return fault.Field("provisioningTemplate", "%s", fault.Message(err))
	}
	if err := checkParameters(c.ProvisioningParameters); err != nil {
		return err
	}
	if err := s.cfg.Provisioner.Check(c.CDFProvisioningParameters); err != nil {
		return err
	}
	if c.ConfigFileGenerator == "" && len(present(c.ConfigOverlay)) > 0 {
		return fault.Field("configOverlay", "needs a configFileGenerator, whose configuration it is merged into")
	}
	if err := config.CheckOverlay(c.ConfigOverlay); err != nil {
		return err //nolint:wrapcheck // names the member
	}
	if c.Claim && c.ConfigFileGenerator == "" {
		return fault.Field("claim", "needs a configFileGenerator: the installer configuration is all that is made of a core that its device claims")
	}
	if c.ConfigFileGenerator != "" {
		if _, err := s.cfg.Generators.For(c.ConfigFileGenerator); err != nil {
			return fault.Field("configFileGenerator", "%s", fault.Message(err))
		}
	}
	return nil
}

// maxParameters is how many bytes the provisioning parameters of one core or
// device may have.
const maxParameters = 64 << 10

func checkParameters(parameters map[string]string) error {
	size := 0
	for name, value := range parameters {
		size += len(name) + len(value)
	}
	if size > maxParameters {
		return fault.Field("provisioningParameters", "have %d bytes, over the limit of %d", size, maxParameters)
	}
	return nil
}

// CoreTask returns a core task, or fault.NotFound, with a page of its items; a page
// without Count and After has all of them.
func (s *Service) CoreTask(ctx context.Context, id string, p Page) (CoreTask, error) {
	t, err := s.task(ctx, id, kindCore)
	if err != nil {
		return CoreTask{}, err
	}
	out, err := coreTask(t)
	if err != nil {
		return CoreTask{}, err
	}
	out.Next, err = s.itemPage(ctx, t, p, func(i task.Item) { out.Cores = append(out.Cores, taskItem(i)) })
	return out, err
}

func coreTask(t task.Task) (CoreTask, error) {
	var spec coreTaskSpec
	if err := t.Decode(&spec); err != nil {
		return CoreTask{}, err
	}
	return CoreTask{TaskState: taskState(t), Type: spec.Type, CoreVersion: spec.CoreVersion, Options: spec.Options, Cores: []TaskItem{}}, nil
}

// CoreTasks lists core tasks without their items, by id.
func (s *Service) CoreTasks(ctx context.Context, p Page) ([]CoreTask, string, error) {
	list, more, err := s.tasks.List(ctx, kindCore, p.After, count(p))
	if err != nil {
		return nil, "", err
	}
	out := make([]CoreTask, len(list))
	for i, t := range list {
		if out[i], err = coreTask(t); err != nil {
			return nil, "", err
		}
	}
	if !more {
		return out, "", nil
	}
	return out, list[len(list)-1].ID, nil
}

// task returns a task of one kind; an id of another kind is not found.
func (s *Service) task(ctx context.Context, id, kind string) (task.Task, error) {
	t, err := s.tasks.Get(ctx, id)
	if errors.Is(err, fault.NotFound) || err == nil && t.Kind != kind {
		return t, fault.New(fault.NotFound, "task %q does not exist", id)
	}
	return t, err
}

// itemPage calls each for the items of a page and returns where the next begins.
func (s *Service) itemPage(ctx context.Context, t task.Task, p Page, each func(task.Item)) (next string, err error) {
	if p == (Page{}) {
		return "", s.items(ctx, t, each)
	}
	list, more, err := s.tasks.Items(ctx, t.ID, p.After, count(p))
	if err != nil {
		return "", fmt.Errorf("items of task %s: %w", t.ID, err)
	}
	for _, i := range list {
		each(i)
		next = i.Name
	}
	if !more {
		next = ""
	}
	return next, nil
}

// items calls each for every item of the task, in order.
func (s *Service) items(ctx context.Context, t task.Task, each func(task.Item)) error {
	after := ""
	for {
		list, more, err := s.tasks.Items(ctx, t.ID, after, MaxPage)
		if err != nil {
			return fmt.Errorf("items of task %s: %w", t.ID, err)
		}
		for _, i := range list {
			each(i)
			after = i.Name
		}
		if !more {
			return nil
		}
	}
}

func taskState(t task.Task) TaskState {
	out := TaskState{
		ID: t.ID, Status: TaskStatus(t.Status), StatusMessage: t.StatusMessage, CreatedAt: t.CreatedAt, UpdatedAt: timeOf(t.UpdatedAt),
		BatchesTotal: t.BatchesTotal, Items: t.Items, Succeeded: t.Succeeded, Failed: t.Failed,
	}
	if t.BatchesTotal != nil {
		out.BatchesComplete = &t.BatchesComplete
	}
	return out
}

func taskItem(i task.Item) TaskItem {
	return TaskItem{Name: i.Name, Status: TaskStatus(i.Status), StatusMessage: i.Message, CreatedAt: i.CreatedAt, UpdatedAt: timeOf(i.UpdatedAt)}
}

func timeOf(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}
