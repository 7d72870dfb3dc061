package fault_test

import (
	"fmt"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/greengrassv2"
	gg "github.com/aws/aws-sdk-go-v2/service/greengrassv2/types"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	iottypes "github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Who is who in the story of the AWS user.
const (
	awsCores  = 4  // run, in the group line
	awsAbsent = 12 // things that never connect: the first eight in line, the others in halt, which is canceled
	awsTool   = "com.example.AWSTool"
	conflict  = "ConflictException"
	notFound  = "ResourceNotFoundException"
	exists    = "ResourceAlreadyExistsException"
)

func absent(i int) string { return fmt.Sprintf("away-%02d", i) }

// told is what the AWS user's story came to.
type told struct {
	line, paced, halt, core, last string // deployments that are there at the end
	running                       []string
}

// everything is what an AWS user does: a fleet is prepared, deployed to and taken
// down in part.
func (u *awsUser) everything() told {
	running := coreNames(awsCores)
	u.create(running)
	u.things(running)
	u.provisioning(u.certificates())
	u.components()
	u.account(running[0])
	u.fleet = runCores(u.t, u.w, running)
	u.healthy(running)
	out := u.deployments(running)
	u.fleet.stop()
	u.removals()
	return out
}

func (u *awsUser) group(name string, parent ...string) {
	in := &iot.CreateThingGroupInput{ThingGroupName: &name}
	if len(parent) > 0 {
		in.ParentGroupName = &parent[0]
	}
	call(u, u.iot.CreateThingGroup, in)
}

func (u *awsUser) join(group, thing string) {
	call(u, u.iot.AddThingToThingGroup, &iot.AddThingToThingGroupInput{ThingGroupName: &group, ThingName: &thing})
}

// things makes types, things and groups, changes them, and removes some.
func (u *awsUser) things(running []string) {
	call(u, u.iot.CreateThingType, &iot.CreateThingTypeInput{ThingTypeName: aws.String("saw"), ThingTypeProperties: &iottypes.ThingTypeProperties{
		SearchableAttributes: []string{"line"},
	}})
	u.group("plant")
	u.group("line", "plant")
	for _, g := range []string{"halt", "spare", "empty"} {
		u.group(g) // of no hierarchy: a thing is in one group of each
	}
	call(u, u.iot.UpdateThingGroup, &iot.UpdateThingGroupInput{ThingGroupName: aws.String("line"), ThingGroupProperties: &iottypes.ThingGroupProperties{
		ThingGroupDescription: aws.String("line seven"),
	}})
	call(u, u.iot.DeleteThingGroup, &iot.DeleteThingGroupInput{ThingGroupName: aws.String("empty")})
	for i := range awsAbsent {
		name := absent(i)
		call(u, u.iot.CreateThing, &iot.CreateThingInput{
			ThingName: &name, ThingTypeName: aws.String("saw"),
			AttributePayload: &iottypes.AttributePayload{Attributes: map[string]string{"line": "7"}},
		})
		group := "line"
		if i >= 8 {
			group = "halt"
		}
		u.join(group, name)
	}
	for _, name := range running {
		u.join("line", name)
	}
	call(u, u.iot.CreateThing, &iot.CreateThingInput{ThingName: aws.String("short-lived")})
	call(u, u.iot.UpdateThing, &iot.UpdateThingInput{ThingName: aws.String("short-lived"), AttributePayload: &iottypes.AttributePayload{Attributes: map[string]string{"a": "b"}}})
	u.join("line", "short-lived")
	call(u, u.iot.UpdateThingGroupsForThing, &iot.UpdateThingGroupsForThingInput{
		ThingName: aws.String("short-lived"), ThingGroupsToAdd: []string{"halt", "spare"}, ThingGroupsToRemove: []string{"line"},
	})
	call(u, u.iot.DeleteThing, &iot.DeleteThingInput{ThingName: aws.String("short-lived")})
}

// certificates makes a policy and a certificate, attaches and removes them, and
// leaves a second certificate, whose ARN it returns, with its thing.
func (u *awsUser) certificates() *string {
	const document = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:Connect","Resource":"*"}]}`
	policy := aws.String("may-connect")
	call(u, u.iot.CreatePolicy, &iot.CreatePolicyInput{PolicyName: policy, PolicyDocument: aws.String(document)}, exists)
	call(u, u.iot.CreatePolicy, &iot.CreatePolicyInput{PolicyName: aws.String("unused"), PolicyDocument: aws.String(document)}, exists)
	call(u, u.iot.DeletePolicy, &iot.DeletePolicyInput{PolicyName: aws.String("unused")}, notFound)
	kept, gone := u.certificate(), u.certificate()
	for _, arn := range []*string{kept, gone} {
		call(u, u.iot.AttachPolicy, &iot.AttachPolicyInput{PolicyName: policy, Target: arn})
		call(u, u.iot.AttachThingPrincipal, &iot.AttachThingPrincipalInput{ThingName: aws.String(absent(0)), Principal: arn})
	}
	id := aws.String((*gone)[len(*gone)-64:])
	call(u, u.iot.DetachThingPrincipal, &iot.DetachThingPrincipalInput{ThingName: aws.String(absent(0)), Principal: gone})
	call(u, u.iot.DetachPolicy, &iot.DetachPolicyInput{PolicyName: policy, Target: gone})
	call(u, u.iot.UpdateCertificate, &iot.UpdateCertificateInput{CertificateId: id, NewStatus: iottypes.CertificateStatusInactive})
	call(u, u.iot.DeleteCertificate, &iot.DeleteCertificateInput{CertificateId: id}, notFound)
	return kept
}

// provisioning registers a thing for a certificate that is there, and makes and
// removes what else IoT provisions with.
func (u *awsUser) provisioning(cert *string) {
	body := aws.String(`{"Parameters":{"Name":{"Type":"String"},"Id":{"Type":"String"}},"Resources":{
		"thing":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":{"Ref":"Name"},"ThingGroups":["line"]}},
		"certificate":{"Type":"AWS::IoT::Certificate","Properties":{"CertificateId":{"Ref":"Id"},"Status":"Active"}},
		"policy":{"Type":"AWS::IoT::Policy","Properties":{"PolicyName":"may-connect"}}}}`)
	call(u, u.iot.RegisterThing, &iot.RegisterThingInput{TemplateBody: body, Parameters: map[string]string{
		"Name": absent(0), "Id": (*cert)[len(*cert)-64:],
	}})
	name, role := aws.String("unused"), aws.String("arn:aws:iam::000000000000:role/first")
	call(u, u.iot.CreateProvisioningTemplate, &iot.CreateProvisioningTemplateInput{TemplateName: name, TemplateBody: body, ProvisioningRoleArn: role}, exists)
	call(u, u.iot.DeleteProvisioningTemplate, &iot.DeleteProvisioningTemplateInput{TemplateName: name}, notFound)
	call(u, u.iot.CreateRoleAlias, &iot.CreateRoleAliasInput{RoleAlias: name, RoleArn: role}, exists)
	call(u, u.iot.DeleteRoleAlias, &iot.DeleteRoleAliasInput{RoleAlias: name}, notFound)
	group := aws.String(awsARN + "thinggroup/line")
	call(u, u.iot.TagResource, &iot.TagResourceInput{ResourceArn: group, Tags: []iottypes.Tag{{Key: aws.String("line"), Value: aws.String("7")}, {Key: aws.String("shift"), Value: aws.String("b")}}})
	call(u, u.iot.UntagResource, &iot.UntagResourceInput{ResourceArn: group, TagKeys: []string{"line"}})
}

// certificate makes a certificate. The call has no token: one whose key was lost
// with the answer is looked for and removed, as an AWS user has to do.
func (u *awsUser) certificate() *string {
	for {
		before := u.kills
		out := call(u, u.iot.CreateKeysAndCertificate, &iot.CreateKeysAndCertificateInput{SetAsActive: false})
		if u.kills == before {
			call(u, u.iot.UpdateCertificate, &iot.UpdateCertificateInput{CertificateId: out.CertificateId, NewStatus: iottypes.CertificateStatusActive})
			return out.CertificateArn
		}
		for _, c := range call(u, u.iot.ListCertificates, &iot.ListCertificatesInput{}).Certificates {
			if c.Status == iottypes.CertificateStatusInactive {
				call(u, u.iot.DeleteCertificate, &iot.DeleteCertificateInput{CertificateId: c.CertificateId}, notFound)
			}
		}
	}
}

// components makes three versions with an artifact; one is deleted.
func (u *awsUser) components() {
	for i := range 3 {
		version := fmt.Sprintf("%d.0.0", i+1)
		key := "aws-tool/" + version + "/tool.sh"
		u.upload(key, []byte("#!/bin/sh\n"+version))
		in := &greengrassv2.CreateComponentVersionInput{ClientToken: aws.String(fmt.Sprintf("component-%d", i+1)), Tags: map[string]string{"line": "7"}, InlineRecipe: fmt.Appendf(nil,
			`{"RecipeFormatVersion":"2020-01-25","ComponentName":%q,"ComponentVersion":%q,"Manifests":[{"Platform":{"os":"linux","runtime":"*"},
			"Lifecycle":{"run":"sleep 1"},"Artifacts":[{"Uri":"s3://ggfleet/%s"}]}]}`, awsTool, version, key)}
		arn := call(u, u.gg.CreateComponentVersion, in).Arn
		u.until(func() string {
			got := call(u, u.gg.DescribeComponent, &greengrassv2.DescribeComponentInput{Arn: arn})
			if got.Status.ComponentState == gg.CloudComponentStateDeployable {
				return ""
			}
			return version + " is " + string(got.Status.ComponentState)
		})
		assert.Equal(u.t, arn, call(u, u.gg.CreateComponentVersion, in).Arn, "the token repeats the answer")
		call(u, u.gg.TagResource, &greengrassv2.TagResourceInput{ResourceArn: arn, Tags: map[string]string{"shift": "b"}})
		call(u, u.gg.UntagResource, &greengrassv2.UntagResourceInput{ResourceArn: arn, TagKeys: []string{"line"}})
		if i == 2 {
			call(u, u.gg.DeleteComponent, &greengrassv2.DeleteComponentInput{Arn: arn}, notFound)
		}
	}
}

// account sets what there is once, and what belongs to a core.
func (u *awsUser) account(core string) {
	call(u, u.gg.AssociateServiceRoleToAccount, &greengrassv2.AssociateServiceRoleToAccountInput{RoleArn: aws.String("arn:aws:iam::000000000000:role/first")})
	call(u, u.gg.DisassociateServiceRoleFromAccount, &greengrassv2.DisassociateServiceRoleFromAccountInput{})
	call(u, u.gg.AssociateServiceRoleToAccount, &greengrassv2.AssociateServiceRoleToAccountInput{RoleArn: aws.String("arn:aws:iam::000000000000:role/second")})
	call(u, u.gg.UpdateConnectivityInfo, &greengrassv2.UpdateConnectivityInfoInput{ThingName: &core, ConnectivityInfo: []gg.ConnectivityInfo{
		{Id: aws.String("lan"), HostAddress: aws.String("192.0.2.7"), PortNumber: 8883},
	}})
}

// deploy is one CreateDeployment with a token, made twice.
func (u *awsUser) deployTo(target, name, version string, rate int32) (id string) {
	in := &greengrassv2.CreateDeploymentInput{
		TargetArn: aws.String(awsARN + target), DeploymentName: &name, ClientToken: aws.String("deploy-" + name),
		Components: map[string]gg.ComponentDeploymentSpecification{awsTool: {ComponentVersion: aws.String(version)}},
	}
	if rate > 0 {
		in.IotJobConfiguration = &gg.DeploymentIoTJobConfiguration{JobExecutionsRolloutConfig: &gg.IoTJobExecutionsRolloutConfig{MaximumPerMinute: &rate}}
	}
	id = *call(u, u.gg.CreateDeployment, in).DeploymentId
	assert.Equal(u.t, id, *call(u, u.gg.CreateDeployment, in).DeploymentId, "the token of %s repeats the answer", name)
	return id
}

func (u *awsUser) cancel(id string) {
	call(u, u.gg.CancelDeployment, &greengrassv2.CancelDeploymentInput{DeploymentId: &id}, conflict)
}

func (u *awsUser) remove(id string) {
	call(u, u.gg.DeleteDeployment, &greengrassv2.DeleteDeploymentInput{DeploymentId: &id}, notFound)
}

// carriedOut waits until a group's deployment has reached so many members and so
// many have succeeded.
func (u *awsUser) carriedOut(id string, reached, succeeded int) {
	job := call(u, u.gg.GetDeployment, &greengrassv2.GetDeploymentInput{DeploymentId: &id}).IotJobId
	u.until(func() string {
		d := call(u, u.iot.DescribeJob, &iot.DescribeJobInput{JobId: job}).Job.JobProcessDetails
		at := func(n *int32) int { return int(aws.ToInt32(n)) }
		done := at(d.NumberOfSucceededThings)
		all := done + at(d.NumberOfQueuedThings) + at(d.NumberOfInProgressThings) + at(d.NumberOfCanceledThings)
		require.Zero(u.t, at(d.NumberOfFailedThings)+at(d.NumberOfRejectedThings)+at(d.NumberOfRemovedThings)+at(d.NumberOfTimedOutThings))
		if all == reached && done == succeeded {
			return ""
		}
		return fmt.Sprintf("%s reached %d of %d, and %d of %d succeeded", id, all, reached, done, succeeded)
	})
}

// settled waits until a thing's deployment has ended.
func (u *awsUser) settled(id string) {
	u.until(func() string {
		st := call(u, u.gg.GetDeployment, &greengrassv2.GetDeploymentInput{DeploymentId: &id}).DeploymentStatus
		require.NotEqual(u.t, gg.DeploymentStatusFailed, st)
		if st == gg.DeploymentStatusCompleted {
			return ""
		}
		return id + " is " + string(st)
	})
}

func (u *awsUser) deployments(running []string) told {
	const inLine = 8 + awsCores
	out := told{running: running}
	out.line = u.deployTo("thinggroup/line", "line-1", "1.0.0", 0)
	u.carriedOut(out.line, inLine, awsCores)
	out.paced = u.deployTo("thinggroup/line", "line-2", "2.0.0", 600)
	u.carriedOut(out.paced, inLine, awsCores)

	out.core = u.deployTo("thing/"+running[0], "core-1", "2.0.0", 0) // as its group's: a core runs one version
	u.settled(out.core)
	superseded := u.deployTo("thing/"+absent(1), "away-1", "1.0.0", 0)
	canceled := u.deployTo("thing/"+absent(1), "away-2", "2.0.0", 0)
	u.cancel(canceled)
	u.remove(superseded)
	u.remove(canceled)
	out.last = u.deployTo("thing/"+absent(1), "away-3", "2.0.0", 0)

	out.halt = u.deployTo("thinggroup/halt", "halt-1", "1.0.0", 0)
	u.carriedOut(out.halt, awsAbsent-8, 0)
	u.cancel(out.halt)
	deleted := u.deployTo("thinggroup/halt", "halt-2", "1.0.0", 1)
	u.cancel(deleted)
	u.remove(deleted)

	arn := aws.String("arn:aws:greengrass:" + awsRegion + ":000000000000:deployments:" + out.paced)
	call(u, u.gg.TagResource, &greengrassv2.TagResourceInput{ResourceArn: arn, Tags: map[string]string{"shift": "b", "line": "7"}})
	call(u, u.gg.UntagResource, &greengrassv2.UntagResourceInput{ResourceArn: arn, TagKeys: []string{"line"}})
	return out
}

// removals takes a group with members and a deployment away, and a thing with a
// deployment of its own.
func (u *awsUser) removals() {
	for i := range 8 {
		u.join("spare", absent(i))
	}
	u.carriedOut(u.deployTo("thinggroup/spare", "spare-1", "1.0.0", 0), 8, 0)
	call(u, u.iot.DeleteThingGroup, &iot.DeleteThingGroupInput{ThingGroupName: aws.String("spare")})
	u.deployTo("thing/"+absent(2), "away-4", "1.0.0", 0)
	call(u, u.iot.DeleteThing, &iot.DeleteThingInput{ThingName: aws.String(absent(2))})
	names := call(u, u.iot.ListThings, &iot.ListThingsInput{}).Things
	assert.False(u.t, slices.ContainsFunc(names, func(t iottypes.ThingAttribute) bool { return *t.ThingName == absent(2) }))
}
