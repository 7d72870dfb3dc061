package fleetapi

import "github.com/ggfleet/ggfleet/controlplane/internal/access"

// needs returns the role that an operation of the API needs, by operationId.
// An operation that is missing here needs the empty role, which no role includes; a
// test compares the list with the document.
func needs(operationID string) access.Role {
	switch operationID {
	case "ListTemplates", "GetTemplate", "ListTemplateVersions", "GetTemplateVersion",
		"ListCoreTasks", "GetCoreTask", "GetCoreTaskOfCore", "ListCores", "GetCore", "ListCoreDeployments",
		"ListDeploymentTasks", "GetDeploymentTask", "ListDeploymentTaskCores", "ListDeploymentTaskDeployments", "GetDeploymentTaskCore",
		"GetFleetSummary", "ListComponents", "ListComponentVersions", "GetComponentVersion",
		"ListProvisioningTemplates", "GetProvisioningTemplate", "ListDistributions", "GetActivation",
		"GetMetrics", "GetSystem":
		return access.Viewer
	case "CreateTemplate", "UpdateTemplate", "PatchTemplate", "DeleteTemplate",
		"CreateCoreTask", "CreateDeploymentTask",
		"CreateComponent", "PutArtifact", "DeleteComponentVersion",
		"PutProvisioningTemplate", "PutDistribution", "ActivateDistribution",
		"CreateActivation", "DeleteActivation":
		return access.Operator
	case "CreateAccessKey", "ListAccessKeys", "DeleteAccessKey", "CreateToken", "ListTokens", "DeleteToken":
		return access.Admin
	}
	return ""
}
