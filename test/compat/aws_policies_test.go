package compat_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/smithy-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func (c certificates) thing(t *testing.T, name string) *string {
	t.Helper()
	must(c.iot.CreateThing(t.Context(), &iot.CreateThingInput{ThingName: &name}))(t)
	return &name
}

func (c certificates) principals(t *testing.T) {
	ctx, cert, second := t.Context(), c.make(t, true), c.make(t, true)
	var things []string
	for i := range 3 {
		things = append(things, *c.thing(t, fmt.Sprint("principal-", i)))
	}
	attach := func(thing, arn string, kind types.ThingPrincipalType) error {
		_, err := c.iot.AttachThingPrincipal(ctx, &iot.AttachThingPrincipalInput{ThingName: &thing, Principal: &arn, ThingPrincipalType: kind})
		return err
	}
	for _, n := range things {
		require.NoError(t, attach(n, *cert.CertificateArn, ""))
	}
	require.NoError(t, attach(things[0], *second.CertificateArn, types.ThingPrincipalTypeExclusiveThing))
	failsAs[*types.InvalidRequestException](t, attach(things[1], *second.CertificateArn, ""), "exclusively")
	failsAs[*types.InvalidRequestException](t, attach(things[0], *cert.CertificateArn, types.ThingPrincipalTypeExclusiveThing), "thingPrincipalType")
	failsAs[*types.InvalidRequestException](t, attach(things[0], "arn:aws:iot:us-east-1:999999999999:cert/"+*cert.CertificateId, ""), "principal")
	failsAs[*types.ResourceNotFoundException](t, attach("principal-none", *cert.CertificateArn, ""), "principal-none")
	failsAs[*types.ResourceNotFoundException](t, attach(things[0], certificateARN+strings.Repeat("0", 64), ""))

	var paged []string
	pages := iot.NewListPrincipalThingsPaginator(c.iot, &iot.ListPrincipalThingsInput{Principal: cert.CertificateArn, MaxResults: aws.Int32(2)})
	for pages.HasMorePages() {
		paged = append(paged, must(pages.NextPage(ctx))(t).Things...)
	}
	assert.Equal(t, things, paged)
	list := must(c.iot.ListThingPrincipals(ctx, &iot.ListThingPrincipalsInput{ThingName: &things[0]}))(t)
	assert.ElementsMatch(t, []string{*cert.CertificateArn, *second.CertificateArn}, list.Principals)
	alone := must(c.iot.ListThingPrincipalsV2(ctx, &iot.ListThingPrincipalsV2Input{ThingName: &things[0], ThingPrincipalType: types.ThingPrincipalTypeExclusiveThing}))(t)
	require.Len(t, alone.ThingPrincipalObjects, 1)
	assert.Equal(t, *second.CertificateArn, *alone.ThingPrincipalObjects[0].Principal)
	assert.Equal(t, types.ThingPrincipalTypeExclusiveThing, alone.ThingPrincipalObjects[0].ThingPrincipalType)
	of := must(c.iot.ListPrincipalThingsV2(ctx, &iot.ListPrincipalThingsV2Input{Principal: cert.CertificateArn}))(t)
	require.Len(t, of.PrincipalThingObjects, 3)
	assert.Equal(t, types.ThingPrincipalTypeNonExclusiveThing, of.PrincipalThingObjects[0].ThingPrincipalType)

	c.set(t, cert.CertificateId, types.CertificateStatusInactive)
	_, err := c.iot.DeleteCertificate(ctx, &iot.DeleteCertificateInput{CertificateId: cert.CertificateId, ForceDelete: true})
	failsAs[*types.DeleteConflictException](t, err, "principal-")
	for range 2 { // once more is fine
		for i := range things {
			must(c.iot.DetachThingPrincipal(ctx, &iot.DetachThingPrincipalInput{ThingName: &things[i], Principal: cert.CertificateArn}))(t)
		}
	}
	must(c.iot.DeleteCertificate(ctx, &iot.DeleteCertificateInput{CertificateId: cert.CertificateId}))(t)
	_, err = c.iot.ListPrincipalThings(ctx, &iot.ListPrincipalThingsInput{Principal: cert.CertificateArn})
	failsAs[*types.ResourceNotFoundException](t, err)
	_, err = c.iot.ListThingPrincipals(ctx, &iot.ListThingPrincipalsInput{ThingName: aws.String("principal-none")})
	failsAs[*types.ResourceNotFoundException](t, err)
}

const allowEverything = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:*","Resource":"*"}]}`

func (c certificates) policy(t *testing.T, name string) *string {
	t.Helper()
	must(c.iot.CreatePolicy(t.Context(), &iot.CreatePolicyInput{PolicyName: &name, PolicyDocument: aws.String(allowEverything)}))(t)
	return &name
}

func (c certificates) policies(t *testing.T) {
	ctx, name := t.Context(), aws.String("versions@v1.0")
	deny := aws.String(strings.Replace(allowEverything, "Allow", "Deny", 1))
	made := must(c.iot.CreatePolicy(ctx, &iot.CreatePolicyInput{
		PolicyName: name, PolicyDocument: aws.String(allowEverything), Tags: []types.Tag{{Key: aws.String("a"), Value: aws.String("b")}},
	}))(t)
	assert.Equal(t, "1", *made.PolicyVersionId)
	assert.Equal(t, iotARN+"policy/"+*name, *made.PolicyArn)
	assert.JSONEq(t, allowEverything, *made.PolicyDocument)
	_, err := c.iot.CreatePolicy(ctx, &iot.CreatePolicyInput{PolicyName: name, PolicyDocument: deny})
	exists := failsAs[*types.ResourceAlreadyExistsException](t, err)
	assert.Equal(t, *made.PolicyArn, aws.ToString(exists.ResourceArn))
	second := must(c.iot.CreatePolicyVersion(ctx, &iot.CreatePolicyVersionInput{PolicyName: name, PolicyDocument: deny, SetAsDefault: true}))(t)
	assert.Equal(t, "2", *second.PolicyVersionId)
	assert.True(t, second.IsDefaultVersion)
	got := must(c.iot.GetPolicy(ctx, &iot.GetPolicyInput{PolicyName: name}))(t)
	assert.Equal(t, "2", *got.DefaultVersionId)
	assert.Equal(t, *deny, *got.PolicyDocument)
	for range 3 {
		must(c.iot.CreatePolicyVersion(ctx, &iot.CreatePolicyVersionInput{PolicyName: name, PolicyDocument: deny}))(t)
	}
	_, err = c.iot.CreatePolicyVersion(ctx, &iot.CreatePolicyVersionInput{PolicyName: name, PolicyDocument: deny})
	failsAs[*types.VersionsLimitExceededException](t, err, "5 versions")
	must(c.iot.SetDefaultPolicyVersion(ctx, &iot.SetDefaultPolicyVersionInput{PolicyName: name, PolicyVersionId: aws.String("1")}))(t)
	_, err = c.iot.DeletePolicyVersion(ctx, &iot.DeletePolicyVersionInput{PolicyName: name, PolicyVersionId: aws.String("1")})
	failsAs[*types.DeleteConflictException](t, err, "default version")
	_, err = c.iot.DeletePolicy(ctx, &iot.DeletePolicyInput{PolicyName: name})
	failsAs[*types.DeleteConflictException](t, err, "versions")
	v := must(c.iot.GetPolicyVersion(ctx, &iot.GetPolicyVersionInput{PolicyName: name, PolicyVersionId: aws.String("2")}))(t)
	assert.Equal(t, *deny, *v.PolicyDocument)
	assert.False(t, v.IsDefaultVersion)
	all := must(c.iot.ListPolicyVersions(ctx, &iot.ListPolicyVersionsInput{PolicyName: name}))(t)
	require.Len(t, all.PolicyVersions, 5)
	for _, v := range all.PolicyVersions {
		assert.Equal(t, *v.VersionId == "1", v.IsDefaultVersion)
		if !v.IsDefaultVersion {
			must(c.iot.DeletePolicyVersion(ctx, &iot.DeletePolicyVersionInput{PolicyName: name, PolicyVersionId: v.VersionId}))(t)
		}
	}
	for _, id := range []string{"2", "99999999999999999999"} {
		_, err = c.iot.GetPolicyVersion(ctx, &iot.GetPolicyVersionInput{PolicyName: name, PolicyVersionId: &id})
		failsAs[*types.ResourceNotFoundException](t, err, "version "+id)
	}
	var listed []string
	pages := iot.NewListPoliciesPaginator(c.iot, &iot.ListPoliciesInput{PageSize: aws.Int32(2)})
	for pages.HasMorePages() {
		for _, p := range must(pages.NextPage(ctx))(t).Policies {
			listed = append(listed, *p.PolicyName)
		}
	}
	assert.Contains(t, listed, *name)
	assert.Contains(t, listed, "CDFGreengrass2CorePolicy")
	must(c.iot.DeletePolicy(ctx, &iot.DeletePolicyInput{PolicyName: name}))(t)
	_, err = c.iot.GetPolicy(ctx, &iot.GetPolicyInput{PolicyName: name})
	failsAs[*types.ResourceNotFoundException](t, err, *name)
}

func (c certificates) policiesRefused(t *testing.T) {
	ctx := t.Context()
	for document, word := range map[string]string{
		"{": "policyDocument",
		strings.Replace(allowEverything, "Allow", "Perhaps", 1):                 "Statement[0].Effect",
		strings.Replace(allowEverything, "iot:*", strings.Repeat("x", 2048), 1): "2048",
		strings.Replace(allowEverything, `"Resource":"*"`, `"Resource":1`, 1):   "Statement[0].Resource",
	} {
		_, err := c.iot.CreatePolicy(ctx, &iot.CreatePolicyInput{PolicyName: aws.String("broken"), PolicyDocument: &document})
		failsAs[*types.MalformedPolicyException](t, err, word)
	}
	_, err := c.iot.CreatePolicy(ctx, &iot.CreatePolicyInput{PolicyName: aws.String("no blanks"), PolicyDocument: aws.String(allowEverything)})
	failsAs[*types.InvalidRequestException](t, err, "policyName")
	_, err = c.iot.DeletePolicy(ctx, &iot.DeletePolicyInput{PolicyName: aws.String("CDFGreengrass2CorePolicy")})
	failsAs[*types.DeleteConflictException](t, err, "belongs to this server")
	_, err = c.iot.CreatePolicyVersion(ctx, &iot.CreatePolicyVersionInput{PolicyName: aws.String("none"), PolicyDocument: aws.String("{")})
	failsAs[*types.MalformedPolicyException](t, err)
}

func (c certificates) attached(t *testing.T) {
	ctx, cert := t.Context(), c.make(t, true)
	must(c.iot.CreateThingGroup(ctx, &iot.CreateThingGroupInput{ThingGroupName: aws.String("attached-top")}))(t)
	group := must(c.iot.CreateThingGroup(ctx, &iot.CreateThingGroupInput{ThingGroupName: aws.String("attached-low"), ParentGroupName: aws.String("attached-top")}))(t)
	thing := c.thing(t, "attached")
	must(c.iot.AddThingToThingGroup(ctx, &iot.AddThingToThingGroupInput{ThingName: thing, ThingGroupName: group.ThingGroupName}))(t)
	must(c.iot.AttachThingPrincipal(ctx, &iot.AttachThingPrincipalInput{ThingName: thing, Principal: cert.CertificateArn}))(t)
	attach := func(policy, target string) error {
		_, err := c.iot.AttachPolicy(ctx, &iot.AttachPolicyInput{PolicyName: &policy, Target: &target})
		return err
	}
	for i := range 11 {
		err := attach(*c.policy(t, fmt.Sprintf("attached-%02d", i)), *cert.CertificateArn)
		if i == 10 {
			failsAs[*types.LimitExceededException](t, err, "10 policies")
		} else {
			require.NoError(t, err)
		}
	}
	require.NoError(t, attach("attached-00", *cert.CertificateArn), "twice is fine")
	require.NoError(t, attach("attached-09", *group.ThingGroupArn))
	require.NoError(t, attach("attached-08", *group.ThingGroupArn))
	failsAs[*types.LimitExceededException](t, attach("attached-07", *group.ThingGroupArn), "2 policies")
	require.NoError(t, attach("attached-10", groupARN("attached-top")))
	failsAs[*types.ResourceNotFoundException](t, attach("none", *cert.CertificateArn), "none")
	failsAs[*types.ResourceNotFoundException](t, attach("attached-00", groupARN("attached-none")), "attached-none")
	failsAs[*types.InvalidRequestException](t, attach("attached-00", "us-east-1:0f4e4d8d-identity"), "target")

	names := func(target string, recursive bool) (out []string) {
		pages := iot.NewListAttachedPoliciesPaginator(c.iot, &iot.ListAttachedPoliciesInput{Target: &target, Recursive: recursive, PageSize: aws.Int32(3)})
		for pages.HasMorePages() {
			for _, p := range must(pages.NextPage(ctx))(t).Policies {
				out = append(out, *p.PolicyName)
			}
		}
		return out
	}
	assert.Len(t, names(*cert.CertificateArn, false), 10)
	assert.Equal(t, []string{"attached-08", "attached-09"}, names(*group.ThingGroupArn, false))
	assert.Equal(t, []string{"attached-08", "attached-09", "attached-10"}, names(*group.ThingGroupArn, true))
	var targets []string
	pages := iot.NewListTargetsForPolicyPaginator(c.iot, &iot.ListTargetsForPolicyInput{PolicyName: aws.String("attached-09"), PageSize: aws.Int32(1)})
	for pages.HasMorePages() {
		targets = append(targets, must(pages.NextPage(ctx))(t).Targets...)
	}
	assert.Equal(t, []string{*group.ThingGroupArn, *cert.CertificateArn}, targets)

	effective := must(c.iot.GetEffectivePolicies(ctx, &iot.GetEffectivePoliciesInput{Principal: cert.CertificateArn}))(t)
	assert.Len(t, effective.EffectivePolicies, 11, "those of the groups count")
	assert.JSONEq(t, allowEverything, *effective.EffectivePolicies[0].PolicyDocument)
	byThing := must(c.iot.GetEffectivePolicies(ctx, &iot.GetEffectivePoliciesInput{ThingName: thing}))(t)
	assert.Len(t, byThing.EffectivePolicies, 3)
	_, err := c.iot.GetEffectivePolicies(ctx, &iot.GetEffectivePoliciesInput{})
	failsAs[*types.InvalidRequestException](t, err, "principal")
	_, err = c.iot.GetEffectivePolicies(ctx, &iot.GetEffectivePoliciesInput{CognitoIdentityPoolId: aws.String("x")})
	failsAs[*types.InvalidRequestException](t, err, "cognitoIdentityPoolId")

	_, err = c.iot.DeletePolicy(ctx, &iot.DeletePolicyInput{PolicyName: aws.String("attached-10")})
	failsAs[*types.DeleteConflictException](t, err, "detach it first")
	for range 2 {
		must(c.iot.DetachPolicy(ctx, &iot.DetachPolicyInput{PolicyName: aws.String("attached-10"), Target: aws.String(groupARN("attached-top"))}))(t)
	}
	must(c.iot.DeletePolicy(ctx, &iot.DeletePolicyInput{PolicyName: aws.String("attached-10")}))(t)
	c.set(t, cert.CertificateId, types.CertificateStatusInactive)
	must(c.iot.DetachThingPrincipal(ctx, &iot.DetachThingPrincipalInput{ThingName: thing, Principal: cert.CertificateArn}))(t)
	_, err = c.iot.DeleteCertificate(ctx, &iot.DeleteCertificateInput{CertificateId: cert.CertificateId})
	failsAs[*types.DeleteConflictException](t, err, "attached-")
	must(c.iot.DeleteCertificate(ctx, &iot.DeleteCertificateInput{CertificateId: cert.CertificateId, ForceDelete: true}))(t)
	must(c.iot.DeletePolicy(ctx, &iot.DeletePolicyInput{PolicyName: aws.String("attached-00")}))(t)
}

func (c certificates) mqtt(t *testing.T, pair tls.Certificate, id string) (*tls.Conn, error) {
	t.Helper()
	d := &tls.Dialer{Config: c.TLS(pair)}
	raw, err := d.DialContext(t.Context(), "tcp", c.MQTT)
	if err != nil {
		return nil, err
	}
	conn, _ := raw.(*tls.Conn)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(5*time.Minute)))
	packet := append([]byte{0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 60, 0, byte(len(id))}, id...)
	if _, err := conn.Write(append([]byte{0x10, byte(len(packet))}, packet...)); err != nil {
		return nil, err
	}
	ack := make([]byte, 4)
	if _, err := io.ReadFull(conn, ack); err != nil {
		return nil, err
	}
	if ack[0] != 0x20 || ack[3] != 0 {
		return nil, fmt.Errorf("CONNACK %x", ack)
	}
	return conn, nil
}

func (c certificates) device(t *testing.T) {
	ctx, cert := t.Context(), c.make(t, true)
	pair, err := tls.X509KeyPair([]byte(*cert.CertificatePem), []byte(*cert.KeyPair.PrivateKey))
	require.NoError(t, err)
	thing := c.thing(t, "walker")
	connects := func(why string) *tls.Conn {
		conn, err := c.mqtt(t, pair, *thing)
		require.NoError(t, err, why)
		return conn
	}
	refused := func(why string) {
		_, err := c.mqtt(t, pair, *thing)
		require.Error(t, err, why)
	}
	ends := func(conn *tls.Conn, why string) {
		_, err := io.Copy(io.Discard, conn)
		require.False(t, isTimeout(err), "%s: the session goes on", why)
	}
	refused("neither thing nor policy")
	must(c.iot.AttachThingPrincipal(ctx, &iot.AttachThingPrincipalInput{ThingName: thing, Principal: cert.CertificateArn}))(t)
	refused("no policy")
	policy := c.policy(t, "walker")
	must(c.iot.AttachPolicy(ctx, &iot.AttachPolicyInput{PolicyName: policy, Target: cert.CertificateArn}))(t)
	conn := connects("everything is there")
	deny := aws.String(strings.Replace(allowEverything, "Allow", "Deny", 1))
	v := must(c.iot.CreatePolicyVersion(ctx, &iot.CreatePolicyVersionInput{PolicyName: policy, PolicyDocument: deny, SetAsDefault: true}))(t)
	ends(conn, "the default version denies")
	must(c.iot.SetDefaultPolicyVersion(ctx, &iot.SetDefaultPolicyVersionInput{PolicyName: policy, PolicyVersionId: aws.String("1")}))(t)
	conn = connects("version 1 allows")

	must(c.iot.CreateThingGroup(ctx, &iot.CreateThingGroupInput{ThingGroupName: aws.String("walkers")}))(t)
	must(c.iot.CreatePolicy(ctx, &iot.CreatePolicyInput{PolicyName: aws.String("walkers"), PolicyDocument: deny}))(t)
	must(c.iot.AttachPolicy(ctx, &iot.AttachPolicyInput{PolicyName: aws.String("walkers"), Target: aws.String(groupARN("walkers"))}))(t)
	must(c.iot.AddThingToThingGroup(ctx, &iot.AddThingToThingGroupInput{ThingName: thing, ThingGroupName: aws.String("walkers")}))(t)
	ends(conn, "the group that it joined denies")
	refused("the group denies")
	must(c.iot.DetachPolicy(ctx, &iot.DetachPolicyInput{PolicyName: aws.String("walkers"), Target: aws.String(groupARN("walkers"))}))(t)

	conn = connects("the group denies no more")
	c.set(t, cert.CertificateId, types.CertificateStatusInactive)
	ends(conn, "INACTIVE")
	c.set(t, cert.CertificateId, types.CertificateStatusActive)
	conn = connects("ACTIVE again")
	must(c.iot.DetachThingPrincipal(ctx, &iot.DetachThingPrincipalInput{ThingName: thing, Principal: cert.CertificateArn}))(t)
	ends(conn, "detached")
	must(c.iot.DeletePolicyVersion(ctx, &iot.DeletePolicyVersionInput{PolicyName: policy, PolicyVersionId: v.PolicyVersionId}))(t)
}

func isTimeout(err error) bool {
	n, ok := err.(interface{ Timeout() bool })
	return ok && n.Timeout()
}

func (c certificates) missing(t *testing.T) {
	ctx, id, name := t.Context(), aws.String(strings.Repeat("f", 64)), aws.String("missing")
	arn := aws.String(certificateARN + *id)
	for what, call := range map[string]func() error{
		"UpdateCertificate": func() error {
			_, err := c.iot.UpdateCertificate(ctx, &iot.UpdateCertificateInput{CertificateId: id, NewStatus: types.CertificateStatusActive})
			return err
		},
		"DeleteCertificate": func() error {
			_, err := c.iot.DeleteCertificate(ctx, &iot.DeleteCertificateInput{CertificateId: id})
			return err
		},
		"DeleteCACertificate": func() error {
			_, err := c.iot.DeleteCACertificate(ctx, &iot.DeleteCACertificateInput{CertificateId: id})
			return err
		},
		"DeletePolicy": func() error {
			_, err := c.iot.DeletePolicy(ctx, &iot.DeletePolicyInput{PolicyName: name})
			return err
		},
		"ListPolicyVersions": func() error {
			_, err := c.iot.ListPolicyVersions(ctx, &iot.ListPolicyVersionsInput{PolicyName: name})
			return err
		},
		"SetDefaultPolicyVersion": func() error {
			_, err := c.iot.SetDefaultPolicyVersion(ctx, &iot.SetDefaultPolicyVersionInput{PolicyName: name, PolicyVersionId: aws.String("1")})
			return err
		},
		"DeletePolicyVersion": func() error {
			_, err := c.iot.DeletePolicyVersion(ctx, &iot.DeletePolicyVersionInput{PolicyName: name, PolicyVersionId: aws.String("1")})
			return err
		},
		"ListAttachedPolicies": func() error {
			_, err := c.iot.ListAttachedPolicies(ctx, &iot.ListAttachedPoliciesInput{Target: arn})
			return err
		},
		"ListTargetsForPolicy": func() error {
			_, err := c.iot.ListTargetsForPolicy(ctx, &iot.ListTargetsForPolicyInput{PolicyName: name})
			return err
		},
		"GetEffectivePolicies": func() error {
			_, err := c.iot.GetEffectivePolicies(ctx, &iot.GetEffectivePoliciesInput{Principal: arn})
			return err
		},
		"DetachThingPrincipal": func() error {
			_, err := c.iot.DetachThingPrincipal(ctx, &iot.DetachThingPrincipalInput{ThingName: name, Principal: arn})
			return err
		},
		"ListThingPrincipalsV2": func() error {
			_, err := c.iot.ListThingPrincipalsV2(ctx, &iot.ListThingPrincipalsV2Input{ThingName: name})
			return err
		},
		"ListPrincipalThingsV2": func() error {
			_, err := c.iot.ListPrincipalThingsV2(ctx, &iot.ListPrincipalThingsV2Input{Principal: arn})
			return err
		},
	} {
		t.Run(what, func(t *testing.T) { failsAs[*types.ResourceNotFoundException](t, call()) })
	}
	must(c.iot.DetachPolicy(ctx, &iot.DetachPolicyInput{PolicyName: name, Target: arn}))(t)
}

func (c certificates) readOnly(t *testing.T) {
	ctx := t.Context()
	id, secret := c.newAccessKey(t, map[string]any{"role": "viewer"})
	k := *c.kit
	k.AccessKey, k.Secret = id, secret
	reader := k.IoT()
	must(reader.ListCertificates(ctx, &iot.ListCertificatesInput{}))(t)
	must(reader.ListTargetsForPolicy(ctx, &iot.ListTargetsForPolicyInput{PolicyName: aws.String("CDFGreengrass2CorePolicy")}))(t)
	_, err := reader.CreateKeysAndCertificate(ctx, &iot.CreateKeysAndCertificateInput{})
	var api smithy.APIError
	require.ErrorAs(t, err, &api)
	assert.Equal(t, "UnauthorizedException", api.ErrorCode())
}
