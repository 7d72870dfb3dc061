package compat_test

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/greengrassv2"
	"github.com/aws/aws-sdk-go-v2/service/greengrassv2/types"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/smithy-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/shared/protocol"
	"github.com/ggfleet/ggfleet/test/internal/world"
	"github.com/ggfleet/ggfleet/test/simulator/mqttwire"
)

// cores is the Greengrass V2 API's part for core devices, through the real SDK.
type cores struct {
	*kit
	gg  *greengrassv2.Client
	iot *iot.Client
}

func TestAWSCoreDevices(t *testing.T) {
	k := awsKit(t)
	c := cores{k, k.Greengrass(), k.IoT()}
	for _, part := range []struct {
		name string
		test func(*testing.T)
	}{
		{"a core device appears, is shown, forgotten and comes back", c.life},
		{"core devices are listed in pages and by filter", c.lists},
		{"installed components, roots and all", c.installed},
		{"effective deployments of a thing and a group, newest first", c.effective},
		{"client devices are associated by the hundred", c.devices},
		{"connectivity information is replaced as a whole", c.connectivity},
		{"the account's service role", c.role},
		{"tags of core devices, deployments and component versions", c.tags},
		{"what is not there", c.missing},
		{"what no SDK sends is refused by the name of the member", c.raw},
		{"a key that may only read", c.readOnly},
	} {
		t.Run(part.name, func(t *testing.T) {
			t.Parallel()
			part.test(t)
		})
	}
}

// device is a core device that says what a test wants it to say.
type device struct {
	t        *testing.T
	thing    string
	conn     net.Conn
	r        *bufio.Reader
	sequence int64
}

// device makes a thing with a certificate as an AWS client does, and connects it.
func (c cores) device(t *testing.T, thing string) *device {
	t.Helper()
	ctx := t.Context()
	cert := must(c.iot.CreateKeysAndCertificate(ctx, &iot.CreateKeysAndCertificateInput{SetAsActive: true}))(t)
	c.thing(t, thing)
	must(c.iot.AttachThingPrincipal(ctx, &iot.AttachThingPrincipalInput{ThingName: &thing, Principal: cert.CertificateArn}))(t)
	must(c.iot.AttachPolicy(ctx, &iot.AttachPolicyInput{PolicyName: aws.String("CDFGreengrass2CorePolicy"), Target: cert.CertificateArn}))(t)
	pair, err := tls.X509KeyPair([]byte(*cert.CertificatePem), []byte(*cert.KeyPair.PrivateKey))
	require.NoError(t, err)
	return c.connect(t, thing, pair)
}

func (c cores) connect(t *testing.T, thing string, cert tls.Certificate) *device {
	t.Helper()
	dialer := tls.Dialer{NetDialer: &net.Dialer{Timeout: time.Minute}, Config: &tls.Config{RootCAs: c.Roots, Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}}
	conn, err := dialer.DialContext(t.Context(), "tcp", c.MQTT)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	d := &device{t: t, thing: thing, conn: conn, r: bufio.NewReader(conn)}
	d.send(mqttwire.Packet{Type: mqttwire.Connect, ClientID: thing, CleanStart: true, KeepAlive: 600}, mqttwire.Connack)
	return d
}

func (c cores) thing(t *testing.T, name string) {
	t.Helper()
	must(c.iot.CreateThing(t.Context(), &iot.CreateThingInput{ThingName: &name}))(t)
}

// send sends a packet and waits for its answer; what else comes is of no interest.
func (d *device) send(p mqttwire.Packet, answer mqttwire.Type) {
	d.t.Helper()
	b, err := mqttwire.Append(nil, p, mqttwire.V5)
	require.NoError(d.t, err)
	require.NoError(d.t, d.conn.SetDeadline(time.Now().Add(5*time.Minute)))
	_, err = d.conn.Write(b)
	require.NoError(d.t, err)
	for {
		got, err := mqttwire.Read(d.r, mqttwire.V5, 1<<20)
		require.NoError(d.t, err)
		if got.Type == answer {
			require.LessOrEqual(d.t, got.Code(), byte(0x10), "refused")
			return
		}
	}
}

func (d *device) publish(topic string, payload any) {
	d.t.Helper()
	b, err := json.Marshal(payload)
	require.NoError(d.t, err)
	d.send(mqttwire.Packet{Type: mqttwire.Publish, ID: 1, QoS: 1, Topic: topic, Payload: b}, mqttwire.Puback)
}

// report sends a fleet status; it is committed when report returns.
func (d *device) report(change func(m *protocol.FleetStatus)) {
	d.t.Helper()
	d.sequence++
	m := protocol.FleetStatus{
		GGCVersion: "2.12.0", Platform: "linux", Architecture: "amd64", Thing: d.thing, SequenceNumber: d.sequence, Timestamp: time.Now().UnixMilli(),
		MessageType: protocol.StatusComplete, Trigger: protocol.TriggerNucleusLaunch, OverallDeviceStatus: protocol.Healthy,
	}
	if change != nil {
		change(&m)
	}
	d.publish(protocol.FleetStatusTopic(d.thing), m)
}

// finish reports on a job of the device.
func (d *device) finish(job string, status protocol.JobStatus, details map[string]string) {
	d.t.Helper()
	d.publish(protocol.JobUpdate(d.thing, job), map[string]any{"status": status, "statusDetails": details})
}

// pending is the id of the one job that waits for the device.
func (c cores) pending(t *testing.T, thing string) string {
	t.Helper()
	var id string
	world.Eventually(t, func() string {
		list := must(c.iot.ListJobExecutionsForThing(t.Context(), &iot.ListJobExecutionsForThingInput{ThingName: &thing, Status: "QUEUED"}))(t)
		if n := len(list.ExecutionSummaries); n != 1 {
			return fmt.Sprintf("%s has %d queued executions", thing, n)
		}
		id = *list.ExecutionSummaries[0].JobId
		return ""
	})
	return id
}

func coreARN(name string) string {
	return "arn:aws:greengrass:" + awsRegion + ":" + awsAccount + ":coreDevices:" + name
}

func (c cores) life(t *testing.T) {
	ctx := t.Context()
	name := aws.String("life:core_1-a")
	get := func() (*greengrassv2.GetCoreDeviceOutput, error) {
		return c.gg.GetCoreDevice(ctx, &greengrassv2.GetCoreDeviceInput{CoreDeviceThingName: name})
	}
	d := c.device(t, *name)
	_, err := get()
	gone := failsAs[*types.ResourceNotFoundException](t, err, *name)
	assert.Equal(t, *name, *gone.ResourceId)
	assert.Equal(t, "coreDevice", *gone.ResourceType)

	before := time.Now().Add(-time.Second)
	d.report(nil)
	got := must(get())(t)
	assert.Equal(t, *name, *got.CoreDeviceThingName)
	assert.Equal(t, types.CoreDeviceStatusHealthy, got.Status)
	assert.Equal(t, "2.12.0", *got.CoreVersion)
	assert.Equal(t, "linux", *got.Platform)
	assert.Equal(t, "amd64", *got.Architecture)
	assert.Equal(t, "aws_nucleus_classic", *got.Runtime, "which does not say so itself")
	assert.True(t, got.LastStatusUpdateTimestamp.After(before))
	assert.Equal(t, map[string]string{}, got.Tags)
	d.report(nil)
	again := must(get())(t)
	assert.True(t, again.LastStatusUpdateTimestamp.After(*got.LastStatusUpdateTimestamp), "a report that changed nothing")
	d.report(func(m *protocol.FleetStatus) {
		m.OverallDeviceStatus, m.Runtime = protocol.Unhealthy, protocol.RuntimeLite
	})
	got = must(get())(t)
	assert.Equal(t, types.CoreDeviceStatusUnhealthy, got.Status)
	assert.Equal(t, "aws_nucleus_lite", *got.Runtime)

	must(c.gg.TagResource(ctx, &greengrassv2.TagResourceInput{ResourceArn: aws.String(coreARN(*name)), Tags: map[string]string{"line": "7"}}))(t)
	assert.Equal(t, map[string]string{"line": "7"}, must(get())(t).Tags)
	in := &greengrassv2.DeleteCoreDeviceInput{CoreDeviceThingName: name}
	must(c.gg.DeleteCoreDevice(ctx, in))(t)
	_, err = get()
	failsAs[*types.ResourceNotFoundException](t, err)
	_, err = c.gg.DeleteCoreDevice(ctx, in)
	failsAs[*types.ResourceNotFoundException](t, err)
	must(c.iot.DescribeThing(ctx, &iot.DescribeThingInput{ThingName: name}))(t)
	d.report(nil)
	assert.Empty(t, must(get())(t).Tags, "it came back with its report, not with what was said of it")
}

func (c cores) lists(t *testing.T) {
	ctx := t.Context()
	all := map[string]*device{}
	for i := range 5 {
		name := fmt.Sprintf("list-%d", i)
		all[name] = c.device(t, name)
		all[name].report(func(m *protocol.FleetStatus) {
			if i%2 == 1 {
				m.OverallDeviceStatus = protocol.Unhealthy
			}
			if i > 2 {
				m.Runtime = protocol.RuntimeLite
			}
		})
	}
	names := func(in greengrassv2.ListCoreDevicesInput, size int32) (out []string) {
		t.Helper()
		in.MaxResults = aws.Int32(size)
		for p := greengrassv2.NewListCoreDevicesPaginator(c.gg, &in, func(o *greengrassv2.ListCoreDevicesPaginatorOptions) { o.StopOnDuplicateToken = true }); p.HasMorePages(); {
			page := must(p.NextPage(ctx))(t)
			assert.LessOrEqual(t, len(page.CoreDevices), int(size))
			for _, d := range page.CoreDevices {
				if strings.HasPrefix(*d.CoreDeviceThingName, "list-") { // others make core devices at the same time
					out = append(out, *d.CoreDeviceThingName)
					assert.NotNil(t, d.LastStatusUpdateTimestamp)
					assert.Equal(t, "linux", *d.Platform)
					assert.Equal(t, "amd64", *d.Architecture)
				}
			}
		}
		return out
	}
	assert.Equal(t, []string{"list-0", "list-1", "list-2", "list-3", "list-4"}, names(greengrassv2.ListCoreDevicesInput{}, 2))
	assert.Equal(t, []string{"list-1", "list-3"}, names(greengrassv2.ListCoreDevicesInput{Status: types.CoreDeviceStatusUnhealthy}, 1))
	assert.Equal(t, []string{"list-0", "list-1", "list-2"}, names(greengrassv2.ListCoreDevicesInput{Runtime: aws.String("aws_nucleus_classic")}, 100))
	assert.Equal(t, []string{"list-4"}, names(greengrassv2.ListCoreDevicesInput{Runtime: aws.String("aws_nucleus_lite"), Status: types.CoreDeviceStatusHealthy}, 1))

	must(c.iot.CreateThingGroup(ctx, &iot.CreateThingGroupInput{ThingGroupName: aws.String("list-group")}))(t)
	for _, name := range []string{"list-0", "list-3"} {
		must(c.iot.AddThingToThingGroup(ctx, &iot.AddThingToThingGroupInput{ThingName: &name, ThingGroupName: aws.String("list-group")}))(t)
	}
	group := aws.String(groupARN("list-group"))
	assert.Empty(t, names(greengrassv2.ListCoreDevicesInput{ThingGroupArn: group}, 1), "members ran nothing yet")
	made := must(c.gg.CreateDeployment(ctx, &greengrassv2.CreateDeploymentInput{TargetArn: group}))(t)
	for _, name := range []string{"list-0", "list-3"} {
		assert.Equal(t, *made.IotJobId, c.pending(t, name))
	}
	all["list-0"].finish(*made.IotJobId, protocol.JobSucceeded, nil)
	all["list-3"].finish(*made.IotJobId, protocol.JobFailed, nil)
	assert.Equal(t, []string{"list-0"}, names(greengrassv2.ListCoreDevicesInput{ThingGroupArn: group}, 1))
	must(c.iot.RemoveThingFromThingGroup(ctx, &iot.RemoveThingFromThingGroupInput{ThingName: aws.String("list-0"), ThingGroupName: aws.String("list-group")}))(t)
	assert.Equal(t, []string{"list-0"}, names(greengrassv2.ListCoreDevicesInput{ThingGroupArn: group}, 1), "one that left stays listed")
	assert.Empty(t, names(greengrassv2.ListCoreDevicesInput{ThingGroupArn: group, Status: types.CoreDeviceStatusUnhealthy}, 1))

	first := must(c.gg.ListCoreDevices(ctx, &greengrassv2.ListCoreDevicesInput{MaxResults: aws.Int32(1)}))(t)
	for name, in := range map[string]*greengrassv2.ListCoreDevicesInput{
		"nextToken":     {MaxResults: aws.Int32(1), NextToken: first.NextToken, Status: types.CoreDeviceStatusHealthy},
		"maxResults":    {MaxResults: aws.Int32(101)},
		"status":        {Status: "OFFLINE"},
		"thingGroupArn": {ThingGroupArn: aws.String("arn:aws:iot:eu-west-1:1:thinggroup/other")},
		"runtime":       {Runtime: aws.String(strings.Repeat("r", 256))},
	} {
		_, err := c.gg.ListCoreDevices(ctx, in)
		invalidField(t, err, name)
	}
}

// invalidField asserts a ValidationException that names one member.
func invalidField(t *testing.T, err error, name string) {
	t.Helper()
	e := failsAs[*types.ValidationException](t, err, name)
	assert.Equal(t, types.ValidationExceptionReasonFieldValidationFailed, e.Reason)
	require.Len(t, e.Fields, 1)
	assert.Equal(t, name, *e.Fields[0].Name)
	assert.NotEmpty(t, *e.Fields[0].Message)
}

func (c cores) installed(t *testing.T) {
	ctx := t.Context()
	name := aws.String("installed-1")
	d := c.device(t, *name)
	made := must(c.gg.CreateDeployment(ctx, &greengrassv2.CreateDeploymentInput{TargetArn: aws.String(thingARN(*name))}))(t)
	configuration := "arn:aws:greengrass:" + awsRegion + ":" + awsAccount + ":configuration:thing/" + *name + ":1"
	state := func(component, status string, root bool, arns ...string) protocol.ComponentStatus {
		return protocol.ComponentStatus{ComponentName: component, Version: "1.0.0", Status: status, IsRoot: root, FleetConfigARNs: arns}
	}
	broken := state("com.example.Broken", "BROKEN", true, configuration)
	broken.Details = &protocol.ComponentStatusDetails{StatusCodes: []string{"RUN_ERROR"}, StatusReason: strings.Repeat("é", 2000)}
	d.report(func(m *protocol.FleetStatus) {
		m.Trigger, m.OverallDeviceStatus = protocol.TriggerThingDeployment, protocol.Unhealthy
		m.Components = []protocol.ComponentStatus{state("com.example.Lib", "FINISHED", false), state("com.example.Local", "RUNNING", true, "0f8fad5b-d9cb-469f-a165-70867728950e"), broken}
		m.Deployment = &protocol.DeploymentInformation{DeploymentID: *made.DeploymentId, FleetConfigurationARN: configuration, Status: "FAILED"}
	})
	list := func(in greengrassv2.ListInstalledComponentsInput) (out []types.InstalledComponent) {
		t.Helper()
		in.CoreDeviceThingName = name
		for p := greengrassv2.NewListInstalledComponentsPaginator(c.gg, &in); p.HasMorePages(); {
			out = append(out, must(p.NextPage(ctx))(t).InstalledComponents...)
		}
		return out
	}
	roots := list(greengrassv2.ListInstalledComponentsInput{})
	require.Len(t, roots, 2, "the default")
	x := roots[0]
	assert.Equal(t, "com.example.Broken", *x.ComponentName)
	assert.Equal(t, "1.0.0", *x.ComponentVersion)
	assert.Equal(t, types.InstalledComponentLifecycleStateBroken, x.LifecycleState)
	assert.Equal(t, strings.Repeat("é", 1000), *x.LifecycleStateDetails)
	assert.Equal(t, []string{"RUN_ERROR"}, x.LifecycleStatusCodes)
	assert.True(t, x.IsRoot)
	assert.Equal(t, *made.DeploymentId, *x.LastInstallationSource)
	assert.WithinDuration(t, time.Now(), *x.LastStatusChangeTimestamp, time.Minute)
	assert.WithinDuration(t, time.Now(), *x.LastReportedTimestamp, time.Minute)
	assert.Equal(t, "LOCAL", *roots[1].LastInstallationSource)
	all := list(greengrassv2.ListInstalledComponentsInput{TopologyFilter: types.InstalledComponentTopologyFilterAll, MaxResults: aws.Int32(1)})
	require.Len(t, all, 3)
	assert.Equal(t, "com.example.Lib", *all[1].ComponentName, "by name, a page at a time")
	assert.False(t, all[1].IsRoot)
	assert.Nil(t, all[1].LastInstallationSource)
	assert.Equal(t, []string{}, all[1].LifecycleStatusCodes)

	d.report(func(m *protocol.FleetStatus) {
		m.MessageType, m.Trigger = protocol.StatusPartial, protocol.TriggerThingDeployment
		m.Components = []protocol.ComponentStatus{state("com.example.Broken", "RUNNING", true, configuration), state("com.example.Local", "UNINSTALLED", true)}
	})
	roots = list(greengrassv2.ListInstalledComponentsInput{TopologyFilter: types.InstalledComponentTopologyFilterRoot})
	require.Len(t, roots, 1)
	assert.Equal(t, types.InstalledComponentLifecycleStateRunning, roots[0].LifecycleState)
	assert.Nil(t, roots[0].LifecycleStateDetails)
	assert.True(t, roots[0].LastStatusChangeTimestamp.After(*x.LastStatusChangeTimestamp))

	_, err := c.gg.ListInstalledComponents(ctx, &greengrassv2.ListInstalledComponentsInput{CoreDeviceThingName: name, TopologyFilter: "LEAF"})
	invalidField(t, err, "topologyFilter")
	page := must(c.gg.ListInstalledComponents(ctx, &greengrassv2.ListInstalledComponentsInput{CoreDeviceThingName: name, TopologyFilter: "ALL", MaxResults: aws.Int32(1)}))(t)
	_, err = c.gg.ListInstalledComponents(ctx, &greengrassv2.ListInstalledComponentsInput{CoreDeviceThingName: name, NextToken: page.NextToken})
	invalidField(t, err, "nextToken")
}

func (c cores) effective(t *testing.T) {
	ctx := t.Context()
	name := aws.String("effective-1")
	list := func() []types.EffectiveDeployment {
		t.Helper()
		return must(c.gg.ListEffectiveDeployments(ctx, &greengrassv2.ListEffectiveDeploymentsInput{CoreDeviceThingName: name}))(t).EffectiveDeployments
	}
	d := c.device(t, *name)
	d.report(nil)
	empty := c.Raw(t, http.MethodGet, "/greengrass/v2/coreDevices/"+*name+"/effectiveDeployments", "greengrass", nil)
	assert.JSONEq(t, `{"effectiveDeployments":[]}`, string(empty.Body))

	own := must(c.gg.CreateDeployment(ctx, &greengrassv2.CreateDeploymentInput{TargetArn: aws.String(thingARN(*name))}))(t)
	got := list()
	require.Len(t, got, 1)
	e := got[0]
	assert.Equal(t, *own.DeploymentId, *e.DeploymentId)
	assert.Empty(t, *e.DeploymentName, "there, and empty")
	assert.Equal(t, thingARN(*name), *e.TargetArn)
	assert.Equal(t, types.EffectiveDeploymentExecutionStatusQueued, e.CoreDeviceExecutionStatus)
	assert.Nil(t, e.IotJobId)
	assert.Nil(t, e.IotJobArn)
	assert.Nil(t, e.StatusDetails)
	d.finish(c.pending(t, *name), protocol.JobInProgress, nil)
	assert.Equal(t, types.EffectiveDeploymentExecutionStatusInProgress, list()[0].CoreDeviceExecutionStatus)
	running := must(c.iot.ListJobExecutionsForThing(ctx, &iot.ListJobExecutionsForThingInput{ThingName: name, Status: "IN_PROGRESS"}))(t)
	d.finish(*running.ExecutionSummaries[0].JobId, protocol.JobSucceeded, map[string]string{
		protocol.DetailStatus: "SUCCESSFUL", protocol.DetailErrorStack: "[]", protocol.DetailErrorTypes: "[]",
	})
	e = list()[0]
	assert.Equal(t, types.EffectiveDeploymentExecutionStatusCompleted, e.CoreDeviceExecutionStatus, "of a thing")
	assert.Equal(t, "SUCCESSFUL", *e.Reason)
	assert.Nil(t, e.StatusDetails)

	must(c.iot.CreateThingGroup(ctx, &iot.CreateThingGroupInput{ThingGroupName: aws.String("effective-group")}))(t)
	must(c.iot.AddThingToThingGroup(ctx, &iot.AddThingToThingGroupInput{ThingName: name, ThingGroupName: aws.String("effective-group")}))(t)
	deploy := func() *greengrassv2.CreateDeploymentOutput {
		t.Helper()
		return must(c.gg.CreateDeployment(ctx, &greengrassv2.CreateDeploymentInput{TargetArn: aws.String(groupARN("effective-group")), DeploymentName: aws.String("line 1")}))(t)
	}
	made := deploy()
	assert.Equal(t, *made.IotJobId, c.pending(t, *name))
	d.finish(*made.IotJobId, protocol.JobFailed, map[string]string{
		protocol.DetailStatus: "FAILED_NO_STATE_CHANGE", protocol.DetailFailureCause: "no version fits",
		protocol.DetailErrorStack: `["DEPLOYMENT_FAILURE","NO_AVAILABLE_COMPONENT_VERSION"]`, protocol.DetailErrorTypes: `["REQUEST_ERROR"]`,
	})
	got = list()
	require.Len(t, got, 2)
	e = got[0]
	assert.Equal(t, *made.DeploymentId, *e.DeploymentId)
	assert.Equal(t, "line 1", *e.DeploymentName)
	assert.Equal(t, *made.IotJobId, *e.IotJobId)
	assert.Equal(t, *made.IotJobArn, *e.IotJobArn)
	assert.Equal(t, groupARN("effective-group"), *e.TargetArn)
	assert.Equal(t, types.EffectiveDeploymentExecutionStatusFailed, e.CoreDeviceExecutionStatus)
	assert.Equal(t, "no version fits", *e.Reason)
	assert.Equal(t, []string{"DEPLOYMENT_FAILURE", "NO_AVAILABLE_COMPONENT_VERSION"}, e.StatusDetails.ErrorStack)
	assert.Equal(t, []string{"REQUEST_ERROR"}, e.StatusDetails.ErrorTypes)
	assert.WithinDuration(t, time.Now(), *e.CreationTimestamp, time.Minute)
	assert.False(t, e.ModifiedTimestamp.Before(*e.CreationTimestamp))

	var ids []string
	for p := greengrassv2.NewListEffectiveDeploymentsPaginator(c.gg, &greengrassv2.ListEffectiveDeploymentsInput{CoreDeviceThingName: name, MaxResults: aws.Int32(1)}); p.HasMorePages(); {
		for _, e := range must(p.NextPage(ctx))(t).EffectiveDeployments {
			ids = append(ids, *e.DeploymentId)
		}
	}
	assert.Equal(t, []string{*made.DeploymentId, *own.DeploymentId}, ids)

	made = deploy()
	assert.Equal(t, *made.IotJobId, c.pending(t, *name))
	d.finish(*made.IotJobId, protocol.JobSucceeded, nil)
	got = list()
	require.Len(t, got, 2, "one for each target")
	assert.Equal(t, types.EffectiveDeploymentExecutionStatusSucceeded, got[0].CoreDeviceExecutionStatus, "of a group")
	assert.Nil(t, got[0].StatusDetails)
	_, err := c.gg.ListEffectiveDeployments(ctx, &greengrassv2.ListEffectiveDeploymentsInput{CoreDeviceThingName: name, NextToken: aws.String("!")})
	invalidField(t, err, "nextToken")
}

func (c cores) devices(t *testing.T) {
	ctx := t.Context()
	core := aws.String("hub")
	c.thing(t, *core) // it need not have connected
	var entries []types.AssociateClientDeviceWithCoreDeviceEntry
	for i := range 7 {
		name := fmt.Sprintf("hub-device-%d", i)
		c.thing(t, name)
		entries = append(entries, types.AssociateClientDeviceWithCoreDeviceEntry{ThingName: &name})
	}
	associate := func(list ...types.AssociateClientDeviceWithCoreDeviceEntry) (*greengrassv2.BatchAssociateClientDeviceWithCoreDeviceOutput, error) {
		return c.gg.BatchAssociateClientDeviceWithCoreDevice(ctx, &greengrassv2.BatchAssociateClientDeviceWithCoreDeviceInput{CoreDeviceThingName: core, Entries: list})
	}
	list := func(size int32) (out []types.AssociatedClientDevice) {
		t.Helper()
		in := &greengrassv2.ListClientDevicesAssociatedWithCoreDeviceInput{CoreDeviceThingName: core, MaxResults: &size}
		for p := greengrassv2.NewListClientDevicesAssociatedWithCoreDevicePaginator(c.gg, in); p.HasMorePages(); {
			out = append(out, must(p.NextPage(ctx))(t).AssociatedClientDevices...)
		}
		return out
	}
	assert.Equal(t, []types.AssociateClientDeviceWithCoreDeviceErrorEntry{}, must(associate(append(entries, entries[0])...))(t).ErrorEntries)
	got := list(2)
	require.Len(t, got, 7)
	for i, x := range got {
		assert.Equal(t, *entries[i].ThingName, *x.ThingName)
		assert.WithinDuration(t, time.Now(), *x.AssociationTimestamp, time.Minute)
	}
	entry := func(name string) types.AssociateClientDeviceWithCoreDeviceEntry {
		return types.AssociateClientDeviceWithCoreDeviceEntry{ThingName: &name}
	}
	failed := must(associate(entry("no-such-thing"), entries[0], entry("no good"), entry("no-such-thing")))(t).ErrorEntries
	require.Len(t, failed, 2)
	assert.Equal(t, "no-such-thing", *failed[0].ThingName)
	assert.Equal(t, "ResourceNotFoundException", *failed[0].Code)
	assert.NotEmpty(t, *failed[0].Message)
	assert.Equal(t, "no good", *failed[1].ThingName)
	assert.Equal(t, "ValidationException", *failed[1].Code)
	assert.Equal(t, got, list(100), "the time is that of the first")

	out := must(c.gg.BatchDisassociateClientDeviceFromCoreDevice(ctx, &greengrassv2.BatchDisassociateClientDeviceFromCoreDeviceInput{
		CoreDeviceThingName: core, Entries: []types.DisassociateClientDeviceFromCoreDeviceEntry{{ThingName: entries[0].ThingName}, {ThingName: core}, {ThingName: aws.String("no-such-thing")}},
	}))(t)
	require.Len(t, out.ErrorEntries, 1, "what is not associated is fine, as long as it is there")
	assert.Equal(t, "ResourceNotFoundException", *out.ErrorEntries[0].Code)
	assert.Len(t, list(100), 6)

	_, err := associate()
	failsAs[*types.ValidationException](t, err, "entries")
	many := make([]types.AssociateClientDeviceWithCoreDeviceEntry, 101)
	for i := range many {
		many[i] = entry(fmt.Sprint("x", i))
	}
	_, err = associate(many...)
	invalidField(t, err, "entries")
	_, err = associate(entry(strings.Repeat("x", 129)))
	invalidField(t, err, "entries[0].thingName")
	core = aws.String("no-such-core")
	_, err = associate(entries...)
	gone := failsAs[*types.ResourceNotFoundException](t, err)
	assert.Equal(t, "no-such-core", *gone.ResourceId)
	_, err = c.gg.BatchDisassociateClientDeviceFromCoreDevice(ctx, &greengrassv2.BatchDisassociateClientDeviceFromCoreDeviceInput{
		CoreDeviceThingName: core, Entries: []types.DisassociateClientDeviceFromCoreDeviceEntry{{ThingName: entries[0].ThingName}},
	})
	failsAs[*types.ResourceNotFoundException](t, err)
	_, err = c.gg.ListClientDevicesAssociatedWithCoreDevice(ctx, &greengrassv2.ListClientDevicesAssociatedWithCoreDeviceInput{CoreDeviceThingName: core})
	failsAs[*types.ResourceNotFoundException](t, err)
}

func (c cores) connectivity(t *testing.T) {
	ctx := t.Context()
	name := aws.String("reachable")
	c.thing(t, *name)
	get := func() []types.ConnectivityInfo {
		t.Helper()
		return must(c.gg.GetConnectivityInfo(ctx, &greengrassv2.GetConnectivityInfoInput{ThingName: name}))(t).ConnectivityInfo
	}
	assert.Equal(t, []types.ConnectivityInfo{}, get())
	two := []types.ConnectivityInfo{
		{Id: aws.String("1"), HostAddress: aws.String("192.0.2.7"), PortNumber: 8883, Metadata: aws.String("")},
		{Id: aws.String("2"), HostAddress: aws.String("core.example.com"), PortNumber: 0, Metadata: aws.String("line 7")},
	}
	update := func(list []types.ConnectivityInfo) string {
		t.Helper()
		return *must(c.gg.UpdateConnectivityInfo(ctx, &greengrassv2.UpdateConnectivityInfoInput{ThingName: name, ConnectivityInfo: list}))(t).Version
	}
	first := update(two)
	assert.Len(t, first, 36)
	assert.Equal(t, two, get())
	assert.NotEqual(t, first, update(two[:1]))
	assert.Equal(t, two[:1], get())
	_, err := c.gg.UpdateConnectivityInfo(ctx, &greengrassv2.UpdateConnectivityInfoInput{ThingName: name, ConnectivityInfo: []types.ConnectivityInfo{{PortNumber: 65536}}})
	invalidField(t, err, "ConnectivityInfo[0].PortNumber")
	_, err = c.gg.UpdateConnectivityInfo(ctx, &greengrassv2.UpdateConnectivityInfoInput{ThingName: aws.String("nobody"), ConnectivityInfo: two})
	assert.Equal(t, "ResourceNotFoundException", codeOf(t, err), "which the operation does not model")
	_, err = c.gg.GetConnectivityInfo(ctx, &greengrassv2.GetConnectivityInfoInput{ThingName: aws.String("nobody")})
	assert.Equal(t, "ResourceNotFoundException", codeOf(t, err))
}

// codeOf is the code of an error that the operation does not model.
func codeOf(t *testing.T, err error) string {
	t.Helper()
	return failsAs[smithy.APIError](t, err).ErrorCode()
}

func (c cores) role(t *testing.T) {
	ctx := t.Context()
	_, err := c.gg.GetServiceRoleForAccount(ctx, &greengrassv2.GetServiceRoleForAccountInput{})
	assert.Equal(t, "ResourceNotFoundException", codeOf(t, err))
	must(c.gg.DisassociateServiceRoleFromAccount(ctx, &greengrassv2.DisassociateServiceRoleFromAccountInput{}))(t)
	iso := func(text *string) {
		t.Helper()
		at, err := time.Parse("2006-01-02T15:04:05Z", *text)
		require.NoError(t, err)
		assert.WithinDuration(t, time.Now(), at, time.Minute)
	}
	for _, role := range []string{"arn:aws:iam::123456789012:role/one", "arn:aws:iam::123456789012:role/service-role/two"} {
		iso(must(c.gg.AssociateServiceRoleToAccount(ctx, &greengrassv2.AssociateServiceRoleToAccountInput{RoleArn: &role}))(t).AssociatedAt)
		got := must(c.gg.GetServiceRoleForAccount(ctx, &greengrassv2.GetServiceRoleForAccountInput{}))(t)
		assert.Equal(t, role, *got.RoleArn)
		iso(got.AssociatedAt)
	}
	_, err = c.gg.AssociateServiceRoleToAccount(ctx, &greengrassv2.AssociateServiceRoleToAccountInput{RoleArn: aws.String("me")})
	invalidField(t, err, "RoleArn")
	iso(must(c.gg.DisassociateServiceRoleFromAccount(ctx, &greengrassv2.DisassociateServiceRoleFromAccountInput{}))(t).DisassociatedAt)
	_, err = c.gg.GetServiceRoleForAccount(ctx, &greengrassv2.GetServiceRoleForAccountInput{})
	assert.Equal(t, "ResourceNotFoundException", codeOf(t, err))
}

func (c cores) tags(t *testing.T) {
	ctx := t.Context()
	c.connect(t, "tagged", c.CreateCores(t, "tagged")[0].Certificate).report(nil)
	recipe := recipeOf("com.tags.App", "1.0.0", anyLinux)
	component := must(c.gg.CreateComponentVersion(ctx, &greengrassv2.CreateComponentVersionInput{InlineRecipe: recipe}))(t)
	d := must(c.gg.CreateDeployment(ctx, &greengrassv2.CreateDeploymentInput{TargetArn: aws.String(thingARN("tagged"))}))(t)
	deployment := "arn:aws:greengrass:" + awsRegion + ":" + awsAccount + ":deployments:" + *d.DeploymentId
	for _, arn := range []string{coreARN("tagged"), *component.Arn, deployment} {
		get := func() map[string]string {
			t.Helper()
			return must(c.gg.ListTagsForResource(ctx, &greengrassv2.ListTagsForResourceInput{ResourceArn: &arn}))(t).Tags
		}
		add := func(tags map[string]string) error {
			_, err := c.gg.TagResource(ctx, &greengrassv2.TagResourceInput{ResourceArn: &arn, Tags: tags})
			return err
		}
		assert.Equal(t, map[string]string{}, get(), arn)
		require.NoError(t, add(map[string]string{"a b": "1", "c/d": "2", "e": ""}))
		require.NoError(t, add(map[string]string{"c/d": "3"}))
		assert.Equal(t, map[string]string{"a b": "1", "c/d": "3", "e": ""}, get())
		must(c.gg.UntagResource(ctx, &greengrassv2.UntagResourceInput{ResourceArn: &arn, TagKeys: []string{"a b", "c/d", "none"}}))(t)
		assert.Equal(t, map[string]string{"e": ""}, get())
		many := map[string]string{}
		for i := range 50 {
			many[fmt.Sprint("k", i)] = ""
		}
		for _, bad := range []map[string]string{{"aws:x": "1"}, {"k": strings.Repeat("v", 257)}, {strings.Repeat("k", 129): "v"}, {"": "v"}, {}, many} {
			failsAs[*types.ValidationException](t, add(bad), "tags")
		}
		assert.Equal(t, map[string]string{"e": ""}, get(), "a refused call changes nothing")
	}
	assert.Equal(t, map[string]string{"e": ""}, must(c.gg.GetDeployment(ctx, &greengrassv2.GetDeploymentInput{DeploymentId: d.DeploymentId}))(t).Tags)
	assert.Equal(t, map[string]string{"e": ""}, must(c.gg.DescribeComponent(ctx, &greengrassv2.DescribeComponentInput{Arn: component.Arn}))(t).Tags)
	var fleet struct {
		Device struct {
			Tags map[string]string `json:"tags"`
		} `json:"device"`
	}
	c.Call(t, http.MethodGet, "/cores/tagged", nil, &fleet)
	assert.Equal(t, map[string]string{"e": ""}, fleet.Device.Tags, "the fleet service sees them too")

	for _, arn := range []string{
		coreARN("nobody"), deployment + "0", componentARN + "com.tags.None:versions:1.0.0",
		strings.Replace(deployment, awsAccount, "123456789012", 1), strings.Replace(coreARN("tagged"), awsRegion, "eu-west-1", 1),
	} {
		_, err := c.gg.ListTagsForResource(ctx, &greengrassv2.ListTagsForResourceInput{ResourceArn: &arn})
		failsAs[*types.ResourceNotFoundException](t, err)
		_, err = c.gg.TagResource(ctx, &greengrassv2.TagResourceInput{ResourceArn: &arn, Tags: map[string]string{"a": ""}})
		gone := failsAs[*types.ResourceNotFoundException](t, err)
		assert.NotEmpty(t, *gone.ResourceId)
		assert.NotEmpty(t, *gone.ResourceType)
		_, err = c.gg.UntagResource(ctx, &greengrassv2.UntagResourceInput{ResourceArn: &arn, TagKeys: []string{"a"}})
		failsAs[*types.ResourceNotFoundException](t, err)
	}
	for _, arn := range []string{"no arn", thingARN("tagged"), componentARN + "com.tags.App"} {
		_, err := c.gg.ListTagsForResource(ctx, &greengrassv2.ListTagsForResourceInput{ResourceArn: &arn})
		invalidField(t, err, "resourceArn")
	}
}

func (c cores) missing(t *testing.T) {
	ctx := t.Context()
	nobody := aws.String("nobody")
	_, err := c.gg.ListInstalledComponents(ctx, &greengrassv2.ListInstalledComponentsInput{CoreDeviceThingName: nobody})
	gone := failsAs[*types.ResourceNotFoundException](t, err)
	assert.Equal(t, "nobody", *gone.ResourceId)
	_, err = c.gg.ListEffectiveDeployments(ctx, &greengrassv2.ListEffectiveDeploymentsInput{CoreDeviceThingName: nobody})
	failsAs[*types.ResourceNotFoundException](t, err)
	_, err = c.gg.DeleteCoreDevice(ctx, &greengrassv2.DeleteCoreDeviceInput{CoreDeviceThingName: nobody})
	failsAs[*types.ResourceNotFoundException](t, err)
	long := aws.String(strings.Repeat("x", 129))
	_, err = c.gg.GetCoreDevice(ctx, &greengrassv2.GetCoreDeviceInput{CoreDeviceThingName: long})
	invalidField(t, err, "coreDeviceThingName")
	_, err = c.gg.GetConnectivityInfo(ctx, &greengrassv2.GetConnectivityInfoInput{ThingName: long})
	invalidField(t, err, "thingName")
}

func (c cores) raw(t *testing.T) {
	c.thing(t, "raw")
	const tags = "/tags/"
	resource := tags + url.QueryEscape(coreARN("nobody"))
	for _, x := range []struct {
		name, method, path, body, field string
	}{
		{"no list of client devices", http.MethodPost, "/greengrass/v2/coreDevices/raw/associateClientDevices", `{}`, "entries"},
		{"a client device without a name", http.MethodPost, "/greengrass/v2/coreDevices/raw/associateClientDevices", `{"entries":[{}]}`, "entries[0].thingName"},
		{"client devices that are no list", http.MethodPost, "/greengrass/v2/coreDevices/raw/disassociateClientDevices", `{"entries":{"thingName":"a"}}`, "entries"},
		{"no connectivity information", http.MethodPut, "/greengrass/things/raw/connectivityInfo", `{}`, "ConnectivityInfo"},
		{"connectivity information in small letters", http.MethodPut, "/greengrass/things/raw/connectivityInfo", `{"connectivityInfo":[]}`, "ConnectivityInfo"},
		{"a port that is text", http.MethodPut, "/greengrass/things/raw/connectivityInfo", `{"ConnectivityInfo":[{"PortNumber":"8883"}]}`, "ConnectivityInfo[0].PortNumber"},
		{"no role", http.MethodPut, "/greengrass/servicerole", `{}`, "RoleArn"},
		{"no tags", http.MethodPost, resource, `{}`, "tags"},
		{"a tag that is null", http.MethodPost, resource, `{"tags":{"a":null}}`, "tags.a"},
		{"no keys", http.MethodDelete, resource, "", "tagKeys"},
		{"a page size that is no number", http.MethodGet, "/greengrass/v2/coreDevices?maxResults=ten", "", "maxResults"},
		{"a page size of none", http.MethodGet, "/greengrass/v2/coreDevices/raw/installedComponents?maxResults=0", "", "maxResults"},
	} {
		t.Run(x.name, func(t *testing.T) {
			var body []byte
			if x.body != "" {
				body = []byte(x.body)
			}
			a := c.Raw(t, x.method, x.path, "greengrass", body)
			assert.Equal(t, http.StatusBadRequest, a.Status)
			assert.Equal(t, "ValidationException", a.Header.Get("x-amzn-ErrorType"))
			var e struct {
				Reason string
				Fields []struct{ Name, Message string }
			}
			require.NoError(t, json.Unmarshal(a.Body, &e), string(a.Body))
			assert.Equal(t, "FIELD_VALIDATION_FAILED", e.Reason)
			require.Len(t, e.Fields, 1)
			assert.Equal(t, x.field, e.Fields[0].Name)
		})
	}
	a := c.Raw(t, http.MethodPut, "/greengrass/servicerole", "greengrass", []byte(`{`))
	assert.Equal(t, http.StatusBadRequest, a.Status)
	assert.Contains(t, string(a.Body), "CANNOT_PARSE")
	a = c.Raw(t, http.MethodPut, "/greengrass/things/raw/connectivityInfo", "greengrass", []byte(`{"ConnectivityInfo":[{"Id":null,"HostAddress":"h","Unknown":1}]}`))
	assert.Equal(t, http.StatusOK, a.Status, "null is absent, unknown members are ignored")
}

func (c cores) readOnly(t *testing.T) {
	ctx := t.Context()
	viewer := *c.kit
	viewer.AccessKey, viewer.Secret = c.newAccessKey(t, map[string]any{"role": "viewer"})
	gg := viewer.Greengrass()
	must(gg.ListCoreDevices(ctx, &greengrassv2.ListCoreDevicesInput{}))(t)
	_, err := gg.DeleteCoreDevice(ctx, &greengrassv2.DeleteCoreDeviceInput{CoreDeviceThingName: aws.String("nobody")})
	failsAs[*types.AccessDeniedException](t, err)
	_, err = gg.BatchAssociateClientDeviceWithCoreDevice(ctx, &greengrassv2.BatchAssociateClientDeviceWithCoreDeviceInput{
		CoreDeviceThingName: aws.String("nobody"), Entries: []types.AssociateClientDeviceWithCoreDeviceEntry{{ThingName: aws.String("x")}},
	})
	failsAs[*types.AccessDeniedException](t, err)
	_, err = gg.TagResource(ctx, &greengrassv2.TagResourceInput{ResourceArn: aws.String(coreARN("nobody")), Tags: map[string]string{"a": ""}})
	assert.Equal(t, "AccessDeniedException", codeOf(t, err))
}
