package names

import (
	"strconv"
	"strings"

	"github.com/ggfleet/ggfleet/shared/fault"
)

// Realm is the region and account under which a cloud names its resources.
type Realm struct {
	Region  string // such as us-east-1; classic accepts only names its SDK knows
	Account string // twelve digits
}

func (r Realm) iot(rest string) string {
	return "arn:aws:iot:" + r.Region + ":" + r.Account + ":" + rest
}

func (r Realm) greengrass(rest string) string {
	return "arn:aws:greengrass:" + r.Region + ":" + r.Account + ":" + rest
}

// Thing returns the ARN of a thing.
func (r Realm) Thing(name string) string { return r.iot("thing/" + name) }

// ThingGroup returns the ARN of a thing group.
func (r Realm) ThingGroup(name string) string { return r.iot("thinggroup/" + name) }

// ThingType returns the ARN of a thing type.
func (r Realm) ThingType(name string) string { return r.iot("thingtype/" + name) }

// Certificate returns the ARN of a certificate, also called its principal.
func (r Realm) Certificate(id string) string { return r.iot("cert/" + id) }

// CACertificate returns the ARN of a registered CA.
func (r Realm) CACertificate(id string) string { return r.iot("cacert/" + id) }

// PrivateCA returns the ARN of a private certificate authority.
func (r Realm) PrivateCA(id string) string {
	return "arn:aws:acm-pca:" + r.Region + ":" + r.Account + ":certificate-authority/" + id
}

// Policy returns the ARN of a policy.
func (r Realm) Policy(name string) string { return r.iot("policy/" + name) }

// RoleAlias returns the ARN of a role alias.
func (r Realm) RoleAlias(name string) string { return r.iot("rolealias/" + name) }

// ProvisioningTemplate is the ARN of a template of fleet provisioning.
func (r Realm) ProvisioningTemplate(name string) string {
	return r.iot("provisioningtemplate/" + name)
}

// Client returns the ARN that policies check at CONNECT.
func (r Realm) Client(id string) string { return r.iot("client/" + id) }

// Topic returns the ARN that policies check at PUBLISH and at delivery.
func (r Realm) Topic(topic string) string { return r.iot("topic/" + topic) }

// TopicFilter returns the ARN that policies check at SUBSCRIBE.
func (r Realm) TopicFilter(filter string) string { return r.iot("topicfilter/" + filter) }

// Job returns the ARN of an IoT job.
func (r Realm) Job(id string) string { return r.iot("job/" + id) }

// ComponentVersion returns the ARN of a component version of this account.
func (r Realm) ComponentVersion(name, version string) string {
	return r.greengrass("components:" + name + ":versions:" + version)
}

// Configuration returns the configuration ARN of a deployment's target and
// revision: the form that the nucleus keys its state by. kind is TargetThing or
// TargetThingGroup.
func (r Realm) Configuration(kind TargetKind, name string, revision int) string {
	return r.greengrass("configuration:" + string(kind) + "/" + name + ":" + strconv.Itoa(revision))
}

// Deployment returns the ARN of a deployment.
func (r Realm) Deployment(id string) string { return r.greengrass("deployments:" + id) }

// CoreDevice returns the ARN of a core device.
func (r Realm) CoreDevice(name string) string { return r.greengrass("coreDevices:" + name) }

// TargetKind tells what a deployment is aimed at.
type TargetKind string

// The two kinds of deployment target, as they stand in ARNs.
const (
	TargetThing      TargetKind = "thing"
	TargetThingGroup TargetKind = "thinggroup"
)

// ParseTarget splits a thing or thing group ARN.
func ParseTarget(arn string) (TargetKind, string, error) {
	p := strings.SplitN(arn, ":", 6)
	if len(p) == 6 && p[0] == "arn" && p[2] == "iot" {
		if n, ok := strings.CutPrefix(p[5], "thing/"); ok && CheckThing(n) == nil {
			return TargetThing, n, nil
		}
		if n, ok := strings.CutPrefix(p[5], "thinggroup/"); ok && CheckThingGroup(n) == nil {
			return TargetThingGroup, n, nil
		}
	}
	return "", "", fault.New(fault.Invalid, "target %.200q is not the ARN of a thing or a thing group", arn)
}

// ParseTarget is the function ParseTarget for the ARNs of this realm only.
func (r Realm) ParseTarget(arn string) (TargetKind, string, error) {
	kind, name, err := ParseTarget(arn)
	if err != nil {
		return "", "", err
	}
	if own := r.iot(string(kind) + "/" + name); arn != own {
		return "", "", fault.New(fault.Invalid, "target %.200q is not of this server, which has %q", arn, own)
	}
	return kind, name, nil
}

// ParseComponentVersionARN splits arn:…:components:NAME:versions:VERSION.
func ParseComponentVersionARN(arn string) (name, version string, err error) {
	p := strings.SplitN(arn, ":", 9)
	if len(p) == 9 && p[0] == "arn" && p[2] == "greengrass" && p[5] == "components" && p[7] == "versions" &&
		CheckComponent(p[6]) == nil && p[8] != "" {
		return p[6], p[8], nil
	}
	return "", "", fault.New(fault.Invalid, "%q is not the ARN of a component version", arn)
}

// ParseConfigurationARN splits a configuration ARN into target and revision.
// Values that are no such ARN (lite reports bare ids after local deployments)
// give ok false.
func ParseConfigurationARN(arn string) (kind TargetKind, name string, revision int, ok bool) {
	_, rest, found := strings.Cut(arn, ":configuration:")
	if !found {
		return "", "", 0, false
	}
	i := strings.LastIndexByte(rest, ':')
	if i < 0 {
		return "", "", 0, false
	}
	n, err := strconv.Atoi(rest[i+1:])
	if err != nil || n < 1 {
		return "", "", 0, false
	}
	k, name, found := strings.Cut(rest[:i], "/")
	if !found || (k != string(TargetThing) && k != string(TargetThingGroup)) {
		return "", "", 0, false
	}
	return TargetKind(k), name, n, true
}
