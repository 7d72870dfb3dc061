package fleetapi

// Role says what a principal may do. Each role may do what the ones before it
// may.
type Role string

// The roles.
const (
	Viewer   Role = "viewer"   // reads
	Operator Role = "operator" // changes the fleet
	Admin    Role = "admin"    // hands out access
)

func (r Role) rank() int {
	switch r {
	case Viewer:
		return 1
	case Operator:
		return 2
	case Admin:
		return 3
	}
	return 0
}

// allows reports whether r may do what needs role needed. An unknown role may
// do nothing, and nobody may do what needs an unknown role.
func (r Role) allows(needed Role) bool {
	return needed.rank() > 0 && r.rank() >= needed.rank()
}

// needs returns the role that an operation of the API needs, by operationId.
// An operation that is missing here needs the empty role, which nobody has; a
// test compares the list with the document.
func needs(operationID string) Role {
	switch operationID {
	case "listTemplates", "getTemplate", "listTemplateVersions", "getTemplateVersion",
		"listCoreTasks", "getCoreTask", "getCoreTaskOfCore", "listCores", "getCore", "listCoreDeployments",
		"listDeploymentTasks", "getDeploymentTask", "listDeploymentTaskCores", "listDeploymentTaskDeployments", "getDeploymentTaskCore",
		"getFleetSummary", "listComponents", "listComponentVersions", "getComponentVersion",
		"listProvisioningTemplates", "getProvisioningTemplate", "listDistributions", "getActivation",
		"getMetrics", "getSystem":
		return Viewer
	case "createTemplate", "updateTemplate", "patchTemplate", "deleteTemplate",
		"createCoreTask", "createDeploymentTask",
		"createComponent", "putArtifact", "deleteComponentVersion",
		"putProvisioningTemplate", "putDistribution", "activateDistribution",
		"createActivation", "deleteActivation":
		return Operator
	case "createAccessKey", "listAccessKeys", "deleteAccessKey", "createToken", "listTokens", "deleteToken":
		return Admin
	}
	return ""
}
