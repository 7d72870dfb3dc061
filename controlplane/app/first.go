package app

import (
	"context"
	"errors"

	"github.com/ggfleet/ggfleet/controlplane/internal/enrollment"
	"github.com/ggfleet/ggfleet/controlplane/internal/provisioning"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/iot"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// DefaultRoleAlias is the token exchange role alias of the first start.
const DefaultRoleAlias = "GGFleetTokenExchangeRoleAlias"

// Names of the policies that exist from the first start on. The first two are
// those that the example of the provisioning template names.
const (
	corePolicy          = "CDFGreengrass2CorePolicy"
	tokenExchangePolicy = "myTokenExchangeRoleAliasPolicy"
	clientPolicy        = "GGFleetClientDevicePolicy"
)

// firstStart makes what a first start needs and leaves what is there alone, so
// that an operator's changes survive.
func (a *App) firstStart(ctx context.Context) error {
	for name, document := range policies(a.cfg.realm(), a.cfg.RoleAlias) {
		if err := a.registry.EnsurePolicy(ctx, name, document); err != nil {
			return err
		}
	}
	err := a.registry.CreateRoleAlias(ctx, iot.RoleAlias{
		Name: a.cfg.RoleAlias, RoleARN: "arn:aws:iam::" + a.cfg.Account + ":role/GGFleetTokenExchangeRole",
	})
	if err != nil && !errors.Is(err, fault.Exists) {
		return err
	}
	for id, document := range map[string][]byte{
		provisioning.DefaultID: provisioning.DefaultTemplate, provisioning.DeviceKeyID: provisioning.DeviceKeyTemplate,
		provisioning.ClientKeyID: provisioning.ClientKeyTemplate,
	} {
		if _, err := a.templates.Put(ctx, id, document, provisioning.IfAbsent); err != nil && !errors.Is(err, fault.Stale) {
			return err
		}
	}
	if err := a.components.EnsureStubs(ctx); err != nil {
		return err
	}
	created, err := a.tokens.EnsureAdmin(ctx, a.adminName(), a.file("admin.token"))
	if created {
		a.log.InfoContext(ctx, "admin token written", "file", a.file("admin.token"))
	}
	return err
}

// policies are the documents of the first start: what a core, its token exchange
// and an agent need, and no more.
func policies(r names.Realm, roleAlias string) map[string]string {
	const thing = "${iot:Connection.Thing.ThingName}"
	const core = "${iot:Connection.Thing.Attributes[" + protocol.AttributeCore + "]}"
	const device = "${iot:Connection.Thing.Attributes[" + protocol.AttributeDevice + "]}"
	return map[string]string{
		corePolicy: document(
			allow(`"iot:Connect"`, r.Client(thing), r.Client(thing+"#*")),
			allow(`"iot:Publish","iot:Receive"`, r.Topic("$aws/things/"+thing+"/*"), r.Topic("$aws/things/"+thing+"-gci/shadow/*"),
				r.Topic(thing+"/*"), r.Topic("dt/*/"+thing+"/*"), r.Topic("cmd/*/"+thing+"/*")),
			allow(`"iot:Subscribe"`, r.TopicFilter("$aws/things/"+thing+"/*"), r.TopicFilter("$aws/things/"+thing+"-gci/shadow/*"),
				r.TopicFilter(thing+"/*"), r.TopicFilter("dt/*/"+thing+"/*"), r.TopicFilter("cmd/*/"+thing+"/*")),
			allow(`"greengrass:ResolveComponentCandidates","greengrass:GetComponentVersionArtifact","greengrass:ListThingGroupsForCoreDevice",`+
				`"greengrass:GetConnectivityInfo","greengrass:UpdateConnectivityInfo","greengrass:Discover"`, "*"), // its own only, whatever the policy says
			allow(`"iot:AssumeRoleWithCertificate"`, r.RoleAlias(roleAlias)), // templates that name this policy alone make whole cores
		),
		tokenExchangePolicy: document(allow(`"iot:AssumeRoleWithCertificate"`, r.RoleAlias(roleAlias))),
		clientPolicy: document(
			allow(`"iot:Connect"`, r.Client(thing)),
			allow(`"iot:Publish","iot:Receive"`, r.Topic(thing+"/*"), r.Topic("dt/*/"+thing+"/*"), r.Topic("cmd/*/"+thing+"/*")),
			allow(`"iot:Subscribe"`, r.TopicFilter(thing+"/*"), r.TopicFilter("dt/*/"+thing+"/*"), r.TopicFilter("cmd/*/"+thing+"/*")),
			allow(`"greengrass:Discover"`, "*"), // its own cores only, whatever the policy says
		),
		enrollment.AgentPolicy: document(
			allow(`"iot:Connect"`, r.Client(thing)),
			// An agent has one of the two attributes; what names the other matches nothing.
			allow(`"iot:Publish","iot:RetainPublish"`, r.Topic("ggfleet/v1/cores/"+core+"/agent/*"), r.Topic("ggfleet/v1/devices/"+device+"/agent/*")),
			allow(`"iot:Receive"`, r.Topic("ggfleet/v1/cores/"+core+"/*"), r.Topic("ggfleet/v1/devices/"+device+"/*")),
			allow(`"iot:Subscribe"`, r.TopicFilter("ggfleet/v1/cores/"+core+"/*"), r.TopicFilter("ggfleet/v1/devices/"+device+"/*")),
		),
	}
}

func document(statements ...string) string {
	out := `{"Version":"2012-10-17","Statement":[`
	for i, s := range statements {
		if i > 0 {
			out += ","
		}
		out += s
	}
	return out + "]}"
}

// allow is a statement; actions are quoted already, resources are ours and hold
// nothing to escape.
func allow(actions string, resources ...string) string {
	list := ""
	for i, r := range resources {
		if i > 0 {
			list += ","
		}
		list += `"` + r + `"`
	}
	return `{"Effect":"Allow","Action":[` + actions + `],"Resource":[` + list + `]}`
}
