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
		"ListProvisioningTemplates", "GetProvisioningTemplate", "ListDistributions", "GetNucleusPin", "GetActivation",
		"GetMetrics", "GetSystem",
		"ListDevices", "ListCoreDevices", "GetDevice", "ListDeviceTasks", "ListCoreDeviceTasks", "GetDeviceTask",
		"GetThing", "GetBulkThings",
		"ListPatchTemplates", "GetPatchTemplate", "GetPatchTask", "ListPatchTaskPatches", "GetPatch", "ListDevicePatches",
		"ListEnrollmentRequests", "GetEnrollmentRequest", "ListEnrollmentRules", "GetEnrollmentRule",
		"ListAgentReleases", "GetAgentRelease", "ListAgentReleaseDevices",
		"ListEvents", "StreamEvents", "ListCoreHistory":
		return access.Viewer
	case "CreateTemplate", "UpdateTemplate", "PatchTemplate", "DeleteTemplate",
		"CreateCoreTask", "CreateDeploymentTask",
		"CreateComponent", "PutArtifact", "DeleteComponentVersion",
		"PutProvisioningTemplate", "PutDistribution", "ImportDistribution", "ActivateDistribution", "PutNucleusPin", "DeleteNucleusPin",
		"DeleteProvisioningTemplate", "CreateActivation", "DeleteActivation",
		"PutAgentReleaseFile", "ActivateAgentRelease", "PauseAgentRelease", "DeleteAgentRelease",
		"CreateDeviceTask", "DeleteDevice",
		"ApproveEnrollmentRequest", "DenyEnrollmentRequest", "DeleteEnrollmentRequest", "PutEnrollmentRule", "PutEnrollmentSerials", "DeleteEnrollmentRule",
		"CancelDeploymentTask", "RetryDeploymentTask", "DeleteDeploymentTask",
		"CreateThing", "DeleteThing", "UpdateThingCertificates", "CreateBulkThings",
		"CreatePatchTemplate", "UpdatePatchTemplate", "DeletePatchTemplate", "CreatePatchTask", "UpdatePatch", "DeletePatch",
		// Logs tell much of a device. Bundles and restarts need more: see mayHelp.
		"CreateCoreHelpRequest", "CreateDeviceHelpRequest", "ListCoreHelpRequests", "ListDeviceHelpRequests", "GetHelpRequest", "DeleteHelpRequest", "GetHelpContent",
		// The URL of a webhook may hold a secret.
		"CreateWebhook", "ListWebhooks", "GetWebhook", "UpdateWebhook", "DeleteWebhook", "ListDeadLetters", "ReplayWebhook":
		return access.Operator
	case "CreateAccessKey", "ListAccessKeys", "DeleteAccessKey", "CreateToken", "ListTokens", "DeleteToken":
		return access.Admin
	}
	return ""
}
