package fleet

import (
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/event"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/controlplane/internal/task"
)

// Details of the published events (cdf-services §7). Status is success or
// failed; Message only with failed.
type (
	coreDetail struct { // CoreCreated, CoreDeleted, DeploymentTaskCreated
		CoreName string `json:"coreName"`
		TaskID   string `json:"taskId"`
		Status   string `json:"status"`
		Message  string `json:"message,omitempty"`
	}
	deviceDetail struct { // DeviceCreated, DeviceDeleted
		TaskID     string `json:"taskId,omitempty"`
		DeviceName string `json:"deviceName"`
		Status     string `json:"status"`
		Message    string `json:"message,omitempty"`
	}
	templateDetail struct { // CoreTemplateUpdated
		CoreName         string `json:"coreName"`
		DeploymentTaskID string `json:"deploymentTaskId"`
		DeploymentID     string `json:"deploymentId"`
		JobID            string `json:"jobId"`
		TemplateName     string `json:"templateName"`
		TemplateVersion  int    `json:"templateVersion"`
		Status           string `json:"status"`
		Message          string `json:"message,omitempty"`
	}
	taskDetail struct { // DeploymentTaskDeleted
		TaskID string `json:"taskId"`
		Status string `json:"status"`
	}
)

const (
	eventSuccess = "success"
	eventFailed  = "failed"
)

// tell adds the event of a core's item that ended to b.
func tell(b *state.Batch, t event.Type, w *task.Work, r task.Result, at time.Time) {
	d := coreDetail{CoreName: w.Item.Name, TaskID: w.Task.ID, Status: eventSuccess}
	if r.Status != task.Success {
		d.Status, d.Message = eventFailed, r.Message
	}
	event.Add(b, t, w.Item.Name, at, d)
}
