package app_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/app"
	"github.com/ggfleet/ggfleet/controlplane/internal/enrollment"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/policy"
	"github.com/ggfleet/ggfleet/shared/names"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

func TestW67WhatThePoliciesOfTheFirstStartAllow(t *testing.T) {
	r := names.Realm{Region: "us-east-1", Account: "000000000000"}
	docs := map[string][]*policy.Document{}
	for name, text := range app.Policies(r, "alias") {
		d, err := policy.Parse([]byte(text))
		require.NoError(t, err)
		docs[name] = []*policy.Document{d}
	}
	core := func(client string) *policy.Vars {
		return &policy.Vars{MQTT: true, ClientID: client, Thing: &policy.Thing{Name: "core"}}
	}
	agent := &policy.Vars{MQTT: true, ClientID: "core:agent", Thing: &policy.Thing{Name: "core:agent", Attributes: map[string]string{"core": "core"}}}
	client := &policy.Vars{MQTT: true, ClientID: "sensor:agent", Thing: &policy.Thing{Name: "sensor:agent", Attributes: map[string]string{"device": "sensor"}}}
	sensor := protocol.Subject{Role: protocol.RoleClient, Name: "sensor"}
	lost := &policy.Vars{MQTT: true, ClientID: "core"} // the certificate is attached to no thing of this client id
	for _, c := range []struct {
		policy, action, resource string
		vars                     *policy.Vars
		want                     bool
	}{
		{app.CorePolicy, "iot:Connect", r.Client("core"), core("core"), true},
		{app.CorePolicy, "iot:Connect", r.Client("core#2"), core("core#2"), true},
		{app.CorePolicy, "iot:Connect", r.Client("core#endpoint-switch"), core("core#endpoint-switch"), true},
		{app.CorePolicy, "iot:Connect", r.Client("core2"), core("core2"), false},
		{app.CorePolicy, "iot:Connect", r.Client("other"), core("other"), false},
		{app.CorePolicy, "iot:Connect", r.Client("core"), lost, false},
		{app.CorePolicy, "iot:Publish", r.Topic(protocol.FleetStatusTopic("core")), core("core"), true},
		{app.CorePolicy, "iot:Publish", r.Topic(protocol.FleetStatusTopic("core")), core("core#2"), true},
		{app.CorePolicy, "iot:Publish", r.Topic(protocol.FleetStatusTopic("other")), core("core"), false},
		{app.CorePolicy, "iot:Publish", r.Topic(protocol.FleetStatusTopic("core2")), core("core"), false},
		{app.CorePolicy, "iot:Publish", r.Topic(protocol.FleetStatusTopic("core")), lost, false},
		{app.CorePolicy, "iot:Publish", r.Topic(protocol.JobUpdate("core", "j")), core("core"), true},
		{app.CorePolicy, "iot:Publish", r.Topic("$aws/things/core-gci/shadow/get"), core("core"), true},
		{app.CorePolicy, "iot:Publish", r.Topic("core/data"), core("core"), true},
		{app.CorePolicy, "iot:Publish", r.Topic("other/data"), core("core"), false},
		{app.CorePolicy, "iot:Publish", r.Topic(protocol.AgentTopic("core", "health")), core("core"), false},
		{app.CorePolicy, "iot:Subscribe", r.TopicFilter(protocol.JobGet("core", "$next") + "/+"), core("core"), true},
		{app.CorePolicy, "iot:Subscribe", r.TopicFilter("$aws/things/+/jobs/notify"), core("core"), false},
		{app.CorePolicy, "iot:Subscribe", r.TopicFilter("#"), core("core"), false},
		{app.CorePolicy, "iot:Subscribe", r.TopicFilter(protocol.JobsNotify("other")), core("core"), false},
		{app.CorePolicy, "iot:Receive", r.Topic(protocol.JobsNotify("core")), core("core"), true},
		{app.CorePolicy, "iot:Receive", r.Topic(protocol.JobsNotify("other")), core("core"), false},
		{app.CorePolicy, "iot:RetainPublish", r.Topic("core/data"), core("core"), false},
		{app.CorePolicy, "greengrass:ResolveComponentCandidates", r.ComponentVersion("a", "1.0.0"), &policy.Vars{}, true},
		{app.CorePolicy, "greengrass:GetComponentVersionArtifact", r.ComponentVersion("a", "1.0.0"), &policy.Vars{}, true},
		{app.CorePolicy, "greengrass:ListThingGroupsForCoreDevice", r.CoreDevice("core"), &policy.Vars{}, true},
		{app.CorePolicy, "greengrass:UpdateConnectivityInfo", r.Thing("core"), &policy.Vars{}, true},
		{app.CorePolicy, "iot:AssumeRoleWithCertificate", r.RoleAlias("alias"), &policy.Vars{}, true},
		{app.CorePolicy, "iot:AssumeRoleWithCertificate", r.RoleAlias("other"), &policy.Vars{}, false},
		{app.TokenExchangePolicy, "iot:AssumeRoleWithCertificate", r.RoleAlias("alias"), &policy.Vars{}, true},
		{app.TokenExchangePolicy, "iot:AssumeRoleWithCertificate", r.RoleAlias("other"), &policy.Vars{}, false},
		{enrollment.AgentPolicy, "iot:Connect", r.Client("core:agent"), agent, true},
		{enrollment.AgentPolicy, "iot:Connect", r.Client("core"), agent, false},
		{enrollment.AgentPolicy, "iot:Publish", r.Topic(protocol.AgentTopic("core", "health")), agent, true},
		{enrollment.AgentPolicy, "iot:RetainPublish", r.Topic(protocol.AgentTopic("core", "connection")), agent, true},
		{enrollment.AgentPolicy, "iot:Publish", r.Topic(protocol.AgentTopic("other", "health")), agent, false},
		{enrollment.AgentPolicy, "iot:Publish", r.Topic(protocol.AgentTopic("core2", "health")), agent, false},
		{enrollment.AgentPolicy, "iot:Publish", r.Topic(protocol.FleetStatusTopic("core")), agent, false},
		{enrollment.AgentPolicy, "iot:Publish", r.Topic(protocol.FleetStatusTopic("core:agent")), agent, false},
		{enrollment.AgentPolicy, "iot:Receive", r.Topic("ggfleet/v1/cores/core/patches"), agent, true},
		{enrollment.AgentPolicy, "iot:Subscribe", r.TopicFilter("ggfleet/v1/cores/core/help"), agent, true},
		{enrollment.AgentPolicy, "iot:Subscribe", r.TopicFilter("ggfleet/v1/cores/other/help"), agent, false},
		{enrollment.AgentPolicy, "iot:Subscribe", r.TopicFilter("ggfleet/v1/cores/+/help"), agent, false},
		{enrollment.AgentPolicy, "iot:Publish", r.Topic("ggfleet/v1/cores/core/help"), agent, false},
		{enrollment.AgentPolicy, "iot:Publish", r.Topic("ggfleet/v1/devices//agent/health"), agent, false},
		{enrollment.AgentPolicy, "iot:Publish", r.Topic("ggfleet/v1/devices/core/agent/health"), agent, false},
		{enrollment.AgentPolicy, "iot:Publish", r.Topic(sensor.ReportTopic("health")), client, true},
		{enrollment.AgentPolicy, "iot:Publish", r.Topic(protocol.AgentTopic("sensor", "health")), client, false},
		{enrollment.AgentPolicy, "iot:Publish", r.Topic(sensor.ReportTopic("health")), agent, false},
		{enrollment.AgentPolicy, "iot:Subscribe", r.TopicFilter(sensor.Topic("help")), client, true},
		{enrollment.AgentPolicy, "iot:Subscribe", r.TopicFilter("ggfleet/v1/devices/other/help"), client, false},
		{app.ClientPolicy, "iot:Connect", r.Client("core"), core("core"), true},
		{app.ClientPolicy, "iot:Connect", r.Client("other"), core("core"), false},
		{app.ClientPolicy, "iot:Publish", r.Topic("core/data"), core("core"), true},
		{app.ClientPolicy, "iot:Publish", r.Topic(protocol.FleetStatusTopic("core")), core("core"), false},
		{app.ClientPolicy, "greengrass:Discover", r.Thing("core"), &policy.Vars{}, true},
		{app.ClientPolicy, "greengrass:ResolveComponentCandidates", r.ComponentVersion("a", "1.0.0"), &policy.Vars{}, false},
		{enrollment.AgentPolicy, "greengrass:ResolveComponentCandidates", r.ComponentVersion("a", "1.0.0"), &policy.Vars{}, false},
	} {
		client := c.vars.ClientID
		t.Run(c.policy+" "+c.action+" "+c.resource+" as "+client, func(t *testing.T) {
			assert.Equal(t, c.want, policy.Decide(docs[c.policy], policy.Request{Action: c.action, Resource: c.resource, Vars: c.vars}))
		})
	}
}
