package protocol_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

func TestJobTopics(t *testing.T) {
	tests := map[string]struct {
		topic string
		want  protocol.JobTopic
		no    bool
	}{
		"next with namespace":        {topic: protocol.JobGet("gw", protocol.NextJob), want: protocol.JobTopic{Thing: "gw", Job: "$next", Namespace: "aws-gg-deployment", Op: protocol.JobOpDescribe}},
		"update with namespace":      {topic: protocol.JobUpdate("gw", "5f0c"), want: protocol.JobTopic{Thing: "gw", Job: "5f0c", Namespace: "aws-gg-deployment", Op: protocol.JobOpUpdate}},
		"plain describe":             {topic: "$aws/things/gw/jobs/5f0c/get", want: protocol.JobTopic{Thing: "gw", Job: "5f0c", Op: protocol.JobOpDescribe}},
		"pending list":               {topic: "$aws/things/gw/jobs/get", want: protocol.JobTopic{Thing: "gw", Op: protocol.JobOpGetPending}},
		"start next":                 {topic: "$aws/things/gw/jobs/start-next", want: protocol.JobTopic{Thing: "gw", Op: protocol.JobOpStartNext}},
		"an answer is no request":    {topic: "$aws/things/gw/jobs/$next/namespace-aws-gg-deployment/get/accepted", no: true},
		"$next cannot be updated":    {topic: "$aws/things/gw/jobs/$next/update", no: true},
		"a notification":             {topic: protocol.JobsNotifyNext("gw"), no: true},
		"another service":            {topic: "$aws/things/gw/shadow/get", no: true},
		"no thing":                   {topic: "$aws/things//jobs/get", no: true},
		"namespace without anything": {topic: "$aws/things/gw/jobs/5f0c/namespace-/get", no: true},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got, ok := protocol.ParseJobTopic(tc.topic)
			require.Equal(t, !tc.no, ok)
			assert.Equal(t, tc.want, got)
		})
	}
}

func TestAnAnswerWithoutJobLeavesTheMemberOut(t *testing.T) {
	token := "jobs-nucleus-lite"
	b, err := json.Marshal(protocol.JobAnswer{ClientToken: &token, Timestamp: 1760000005})
	require.NoError(t, err)
	assert.JSONEq(t, `{"clientToken":"jobs-nucleus-lite","timestamp":1760000005}`, string(b))
}

func TestEnrollmentRoundTrip(t *testing.T) {
	e := protocol.Enrollment{URL: "https://fleet.example:8443", CAFingerprint: strings.Repeat("ab", 32), ActivationID: "0f8f", Code: "Ab3dE6gH9jK2mN5pQ8sT"}
	got, err := protocol.ParseEnrollment(e.String() + "\n")
	require.NoError(t, err)
	assert.Equal(t, e, got)
	for _, bad := range []string{"", "ggf1.", "ggf1.!!!", e.String()[:40], "https://fleet.example"} {
		_, err := protocol.ParseEnrollment(bad)
		assert.ErrorIs(t, err, fault.Invalid, bad)
	}
}

func FuzzParseEnrollment(f *testing.F) {
	f.Add("ggf1.eyJ1IjoiaHR0cHM6Ly9hIn0")
	f.Fuzz(func(t *testing.T, s string) {
		e, err := protocol.ParseEnrollment(s)
		if err != nil {
			require.ErrorIs(t, err, fault.Invalid)
			return
		}
		again, err := protocol.ParseEnrollment(e.String())
		require.NoError(t, err)
		require.Equal(t, e, again)
	})
}

func FuzzParseFleetStatus(f *testing.F) {
	f.Add([]byte(`{"messageType":"COMPLETE","overallDeviceStatus":"HEALTHY","components":[],"deploymentInformation":{}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := protocol.ParseFleetStatus(b)
		if err != nil {
			require.NotEmpty(t, fault.KindOf(err))
			return
		}
		if s.Deployment != nil {
			require.NotEmpty(t, s.Deployment.DeploymentID)
		}
	})
}

func FuzzParseJobTopic(f *testing.F) {
	f.Add("$aws/things/gw/jobs/$next/namespace-aws-gg-deployment/get")
	f.Fuzz(func(t *testing.T, s string) {
		jt, ok := protocol.ParseJobTopic(s)
		if ok {
			require.NotContains(t, jt.Thing, "/")
			require.NotContains(t, jt.Job, "/")
		}
	})
}

func TestADiskIsLowWhenLittleIsLeftNotOnlyAsAShare(t *testing.T) {
	const MiB, GiB = uint64(1 << 20), uint64(1 << 30)
	for name, tc := range map[string]struct {
		free, whole uint64
		want        bool
	}{
		"a tenth of a large disk":        {22 * GiB, 258 * GiB, false},
		"five of a large disk":           {5 * GiB, 258 * GiB, false},
		"less than five of a large disk": {5*GiB - 1, 258 * GiB, true},
		"half of a small disk":           {128 * MiB, 256 * MiB, false},
		"a twentieth of a usual disk":    {400 * MiB, 8 * GiB, true},
		"too little of any":              {100*MiB - 1, 128 * MiB, true},
		"a disk of no size":              {0, 0, true},
	} {
		t.Run(name, func(t *testing.T) { assert.Equal(t, tc.want, protocol.DiskLow(tc.free, tc.whole)) })
	}
}
