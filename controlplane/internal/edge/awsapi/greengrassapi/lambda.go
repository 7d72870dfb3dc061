package greengrassapi

import "github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/component"

// lambdaFunction and what it holds is checked to the last member before it is
// refused, so that a client hears what it got wrong from here as well.
type lambdaFunction struct {
	ARN          string                         `json:"lambdaArn" check:"required,len=1.."`
	Name         string                         `json:"componentName" check:"len=1..128"`
	Version      string                         `json:"componentVersion" check:"len=1..64"`
	Platforms    []componentPlatform            `json:"componentPlatforms"`
	Dependencies map[string]componentDependency `json:"componentDependencies" check:"key.len=1.."`
	Parameters   *lambdaParameters              `json:"componentLambdaParameters"`
}

type componentDependency struct {
	Requirement string `json:"versionRequirement" check:"len=1.."`
	Type        string `json:"dependencyType" check:"enum=HARD|SOFT"`
}

type lambdaParameters struct {
	EventSources  []lambdaEventSource `json:"eventSources"`
	MaxQueue      *int32              `json:"maxQueueSize"`
	MaxInstances  *int32              `json:"maxInstancesCount"`
	MaxIdle       *int32              `json:"maxIdleTimeInSeconds"`
	Timeout       *int32              `json:"timeoutInSeconds"`
	StatusTimeout *int32              `json:"statusTimeoutInSeconds"`
	Pinned        *bool               `json:"pinned"`
	Encoding      string              `json:"inputPayloadEncodingType" check:"enum=json|binary"`
	Arguments     []string            `json:"execArgs"`
	Environment   map[string]string   `json:"environmentVariables" check:"key.len=1.."`
	Process       *lambdaProcess      `json:"linuxProcessParams"`
}

type lambdaEventSource struct {
	Topic string `json:"topic" check:"required"`
	Type  string `json:"type" check:"required,enum=PUB_SUB|IOT_CORE"`
}

type lambdaProcess struct {
	Isolation string           `json:"isolationMode" check:"enum=GreengrassContainer|NoContainer"`
	Container *lambdaContainer `json:"containerParams"`
}

type lambdaContainer struct {
	Memory  *int32         `json:"memorySizeInKB"`
	Sysfs   *bool          `json:"mountROSysfs"`
	Volumes []lambdaVolume `json:"volumes"`
	Devices []lambdaDevice `json:"devices"`
}

type lambdaVolume struct {
	Source      string `json:"sourcePath" check:"required"`
	Destination string `json:"destinationPath" check:"required"`
	Permission  string `json:"permission" check:"enum=ro|rw"`
	GroupOwner  *bool  `json:"addGroupOwner"`
}

type lambdaDevice struct {
	Path       string `json:"path" check:"required"`
	Permission string `json:"permission" check:"enum=ro|rw"`
	GroupOwner *bool  `json:"addGroupOwner"`
}

func (l *lambdaFunction) source() component.LambdaSource {
	ranges := make(map[string]string, len(l.Dependencies))
	for name, d := range l.Dependencies {
		ranges[name] = d.Requirement
	}
	return component.LambdaSource{FunctionARN: l.ARN, Name: l.Name, Version: l.Version, Dependencies: ranges}
}
