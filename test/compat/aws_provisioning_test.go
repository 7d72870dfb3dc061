package compat_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/greengrassv2"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/smithy-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/shared/pki"
)

const (
	iotARN  = "arn:aws:iot:" + awsRegion + ":" + awsAccount + ":"
	roleARN = "arn:aws:iam::" + awsAccount + ":role/Devices"
)

// provisioning is IoT's part for provisioning, endpoints, role aliases and jobs,
// through the real SDK.
type provisioning struct {
	*kit
	iot *iot.Client
	gg  *greengrassv2.Client
}

func TestAWSProvisioning(t *testing.T) {
	k := awsKit(t)
	p := provisioning{k, k.IoT(), k.Greengrass()}
	for name, test := range map[string]func(*testing.T){
		"RegisterThing with a CSR, by id, by PEM":         p.registerThing,
		"RegisterThing that cannot be carried out":        p.registerThingRefused,
		"RegisterThing of one thing at once":              p.registerThingAtOnce,
		"provisioning templates and their versions":       p.templates,
		"provisioning templates that cannot be":           p.templatesRefused,
		"a claim":                                         p.claim,
		"endpoints":                                       p.endpoints,
		"role aliases":                                    p.roleAliases,
		"role aliases that cannot be":                     p.roleAliasesRefused,
		"the job of a thing's deployment":                 p.jobOfThing,
		"the job of a group's deployment":                 p.jobOfGroup,
		"jobs of deployments are deleted":                 p.jobDeleted,
		"jobs and executions that are not there":          p.jobsMissing,
		"a key that may only read":                        p.readOnly,
		"what is named in the model and refused by value": p.refusedByValue,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t)
		})
	}
}

// code is the error's code on the wire.
func code(t *testing.T, err error) string {
	t.Helper()
	return as[smithy.APIError](t, err).ErrorCode()
}

func csrPEM(t *testing.T) string {
	t.Helper()
	key, err := pki.NewKey(pki.P256)
	require.NoError(t, err)
	b, err := pki.NewCSR(key, "device")
	require.NoError(t, err)
	return string(b)
}

// thingTemplate registers a thing with the certificate resource that is given.
func thingTemplate(certificate string) *string {
	return aws.String(`{"Parameters":{"Name":{"Type":"String"},"Site":{"Type":"String","Default":"Berlin"},"Certificate":{"Type":"String"}},
"Resources":{"device":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":{"Ref":"Name"},"AttributePayload":{"site":{"Ref":"Site"}}},
"OverrideSettings":{"AttributePayload":"MERGE"}},
"identity":{"Type":"AWS::IoT::Certificate","Properties":{"` + certificate + `":{"Ref":"Certificate"},"Status":"ACTIVE"}},
"rights":{"Type":"AWS::IoT::Policy","Properties":{"PolicyDocument":"{\"Version\":\"2012-10-17\",\"Statement\":[{\"Effect\":\"Allow\",\"Action\":\"iot:*\",\"Resource\":\"*\"}]}"}}}}`)
}

// register makes a thing with a certificate of its own.
func (p provisioning) register(t *testing.T, name string) *iot.RegisterThingOutput {
	t.Helper()
	out, err := p.iot.RegisterThing(t.Context(), &iot.RegisterThingInput{
		TemplateBody: thingTemplate("CertificateSigningRequest"), Parameters: map[string]string{"Name": name, "Certificate": csrPEM(t)},
	})
	require.NoError(t, err)
	return out
}

func (p provisioning) registerThing(t *testing.T) {
	out := p.register(t, "register-csr")
	certs, err := pki.ParseCerts([]byte(aws.ToString(out.CertificatePem)))
	require.NoError(t, err)
	id := pki.ID(certs[0].Raw)
	assert.True(t, certs[0].NotAfter.After(time.Now().AddDate(10, 0, 0)), "a certificate that lasts, as AWS IoT's do")
	require.Len(t, out.ResourceArns, 3, "by their logical names")
	assert.Equal(t, iotARN+"thing/register-csr", out.ResourceArns["device"])
	assert.Equal(t, iotARN+"cert/"+id, out.ResourceArns["identity"])
	assert.Contains(t, out.ResourceArns["rights"], iotARN+"policy/")

	again, err := p.iot.RegisterThing(t.Context(), &iot.RegisterThingInput{
		TemplateBody: thingTemplate("CertificateId"), Parameters: map[string]string{"Name": "register-csr", "Certificate": id, "Site": "Bremen"},
	})
	require.NoError(t, err)
	assert.Equal(t, out.ResourceArns, again.ResourceArns)
	assert.Equal(t, out.CertificatePem, again.CertificatePem, "returned although it existed")
	thing, err := p.iot.DescribeThing(t.Context(), &iot.DescribeThingInput{ThingName: aws.String("register-csr")})
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"site": "Bremen"}, thing.Attributes)

	other, err := p.iot.RegisterThing(t.Context(), &iot.RegisterThingInput{
		TemplateBody: thingTemplate("CertificatePem"), Parameters: map[string]string{"Name": "register-pem", "Certificate": *out.CertificatePem},
	})
	require.NoError(t, err)
	assert.Equal(t, iotARN+"cert/"+id, other.ResourceArns["identity"])
}

func (p provisioning) registerThingRefused(t *testing.T) {
	for name, tt := range map[string]struct {
		body       string
		parameters map[string]string
		code       string
		says       string
	}{
		"no JSON":               {"{", nil, "InvalidRequestException", "not valid JSON"},
		"no resources":          {`{"Parameters":{}}`, nil, "InvalidRequestException", "Resources"},
		"an unknown resource":   {`{"Resources":{"x":{"Type":"AWS::S3::Bucket"}}}`, nil, "InvalidRequestException", "Resources.x.Type"},
		"the CDF section":       {strings.TrimSuffix(*thingTemplate("CertificateId"), "}") + `,"CDF":{}}`, nil, "InvalidRequestException", "CDF"},
		"a function":            {`{"Resources":{"x":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":{"Fn::Join":["",["a"]]}}}}}`, nil, "InvalidRequestException", "Fn::Join"},
		"a missing parameter":   {*thingTemplate("CertificateId"), map[string]string{"Certificate": strings.Repeat("a", 64)}, "ResourceRegistrationFailureException", "parameters.Name"},
		"a thing name":          {*thingTemplate("CertificateId"), map[string]string{"Name": "a b", "Certificate": strings.Repeat("a", 64)}, "ResourceRegistrationFailureException", "a b"},
		"an unknown id":         {*thingTemplate("CertificateId"), map[string]string{"Name": "refused", "Certificate": strings.Repeat("a", 64)}, "ResourceRegistrationFailureException", "not registered"},
		"a CSR that is none":    {*thingTemplate("CertificateSigningRequest"), map[string]string{"Name": "refused", "Certificate": "x"}, "ResourceRegistrationFailureException", ""},
		"a policy without text": {`{"Resources":{"x":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":"refused"}},"c":{"Type":"AWS::IoT::Certificate","Properties":{"CertificateId":"` + strings.Repeat("a", 64) + `"}},"p":{"Type":"AWS::IoT::Policy","Properties":{"PolicyName":"NoSuchPolicy"}}}}`, nil, "ResourceRegistrationFailureException", "NoSuchPolicy"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := p.iot.RegisterThing(t.Context(), &iot.RegisterThingInput{TemplateBody: &tt.body, Parameters: tt.parameters})
			assert.Equal(t, tt.code, code(t, err))
			assert.Contains(t, as[smithy.APIError](t, err).ErrorMessage(), tt.says)
		})
	}
	_, err := p.iot.RegisterThing(t.Context(), &iot.RegisterThingInput{TemplateBody: thingTemplate("CertificateId"), Parameters: map[string]string{"Certificate": "x"}})
	as[*types.ResourceRegistrationFailureException](t, err)
	_, err = p.iot.DescribeThing(t.Context(), &iot.DescribeThingInput{ThingName: aws.String("refused")})
	as[*types.ResourceNotFoundException](t, err)
}

func (p provisioning) registerThingAtOnce(t *testing.T) {
	csr := csrPEM(t)
	var wg sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		wg.Go(func() {
			_, errs[i] = p.iot.RegisterThing(t.Context(), &iot.RegisterThingInput{
				TemplateBody: thingTemplate("CertificateSigningRequest"), Parameters: map[string]string{"Name": "at-once", "Certificate": csr},
			})
		})
	}
	wg.Wait()
	done := 0
	for _, err := range errs {
		if err == nil {
			done++
			continue
		}
		as[*types.ConflictingResourceUpdateException](t, err)
	}
	assert.Positive(t, done)
}

const fleetTemplate = `{"Parameters":{"SerialNumber":{"Type":"String"},"AWS::IoT::Certificate::Id":{"Type":"String"}},
"Mappings":{"Sites":{"A":{"name":"Berlin"}}},"DeviceConfiguration":{"url":{"Fn::Sub":"https://example.com/${SerialNumber}"}},
"Resources":{"thing":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":{"Fn::Join":["-",["fleet",{"Ref":"SerialNumber"}]]},
"AttributePayload":{"site":{"Fn::FindInMap":["Sites","A","name"]}}}},
"certificate":{"Type":"AWS::IoT::Certificate","Properties":{"CertificateId":{"Ref":"AWS::IoT::Certificate::Id"},"Status":"ACTIVE"}}}}`

func (p provisioning) template(t *testing.T, name string) {
	t.Helper()
	_, err := p.iot.CreateProvisioningTemplate(t.Context(), &iot.CreateProvisioningTemplateInput{
		TemplateName: &name, TemplateBody: aws.String(fleetTemplate), ProvisioningRoleArn: aws.String(roleARN),
	})
	require.NoError(t, err)
}

func (p provisioning) templates(t *testing.T) {
	ctx, name := t.Context(), aws.String("fleet")
	made, err := p.iot.CreateProvisioningTemplate(ctx, &iot.CreateProvisioningTemplateInput{
		TemplateName: name, TemplateBody: aws.String(fleetTemplate), ProvisioningRoleArn: aws.String(roleARN), Description: aws.String("Grüße"),
		Enabled: aws.Bool(true), Tags: []types.Tag{{Key: aws.String("team"), Value: aws.String("a")}},
	})
	require.NoError(t, err)
	arn := iotARN + "provisioningtemplate/fleet"
	assert.Equal(t, arn, *made.TemplateArn)
	assert.Equal(t, "fleet", *made.TemplateName)
	assert.EqualValues(t, 1, *made.DefaultVersionId)

	d, err := p.iot.DescribeProvisioningTemplate(ctx, &iot.DescribeProvisioningTemplateInput{TemplateName: name})
	require.NoError(t, err)
	assert.JSONEq(t, fleetTemplate, *d.TemplateBody)
	assert.Equal(t, "Grüße", *d.Description)
	assert.Equal(t, roleARN, *d.ProvisioningRoleArn)
	assert.Equal(t, types.TemplateTypeFleetProvisioning, d.Type)
	assert.True(t, aws.ToBool(d.Enabled))
	assert.WithinDuration(t, time.Now(), *d.CreationDate, 5*time.Minute)

	p.retagged(t, arn)
	v, err := p.iot.CreateProvisioningTemplateVersion(ctx, &iot.CreateProvisioningTemplateVersionInput{TemplateName: name, TemplateBody: aws.String(fleetTemplate), SetAsDefault: true})
	require.NoError(t, err)
	assert.EqualValues(t, 2, *v.VersionId)
	assert.True(t, v.IsDefaultVersion)
	var all []types.ProvisioningTemplateVersionSummary
	for pages := iot.NewListProvisioningTemplateVersionsPaginator(p.iot, &iot.ListProvisioningTemplateVersionsInput{TemplateName: name, MaxResults: aws.Int32(1)}); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		require.NoError(t, err)
		require.Len(t, page.Versions, 1)
		all = append(all, page.Versions...)
	}
	require.Len(t, all, 2)
	assert.False(t, all[0].IsDefaultVersion)
	assert.True(t, all[1].IsDefaultVersion)

	_, err = p.iot.DeleteProvisioningTemplateVersion(ctx, &iot.DeleteProvisioningTemplateVersionInput{TemplateName: name, VersionId: aws.Int32(2)})
	as[*types.DeleteConflictException](t, err)
	_, err = p.iot.DeleteProvisioningTemplate(ctx, &iot.DeleteProvisioningTemplateInput{TemplateName: name})
	as[*types.DeleteConflictException](t, err)
	for range 3 {
		_, err = p.iot.CreateProvisioningTemplateVersion(ctx, &iot.CreateProvisioningTemplateVersionInput{TemplateName: name, TemplateBody: aws.String(fleetTemplate)})
		require.NoError(t, err)
	}
	_, err = p.iot.CreateProvisioningTemplateVersion(ctx, &iot.CreateProvisioningTemplateVersionInput{TemplateName: name, TemplateBody: aws.String(fleetTemplate)})
	as[*types.VersionsLimitExceededException](t, err)
	_, err = p.iot.UpdateProvisioningTemplate(ctx, &iot.UpdateProvisioningTemplateInput{TemplateName: name, DefaultVersionId: aws.Int32(5), Enabled: aws.Bool(false), RemovePreProvisioningHook: aws.Bool(true)})
	require.NoError(t, err)
	for _, n := range []int32{1, 2, 3, 4} {
		_, err = p.iot.DeleteProvisioningTemplateVersion(ctx, &iot.DeleteProvisioningTemplateVersionInput{TemplateName: name, VersionId: &n})
		require.NoError(t, err)
	}
	_, err = p.iot.DeleteProvisioningTemplateVersion(ctx, &iot.DeleteProvisioningTemplateVersionInput{TemplateName: name, VersionId: aws.Int32(1)})
	as[*types.ResourceNotFoundException](t, err)
	_, err = p.iot.DeleteProvisioningTemplate(ctx, &iot.DeleteProvisioningTemplateInput{TemplateName: name})
	require.NoError(t, err)
	_, err = p.iot.DescribeProvisioningTemplate(ctx, &iot.DescribeProvisioningTemplateInput{TemplateName: name})
	as[*types.ResourceNotFoundException](t, err)
}

// retagged changes the tags of a resource that was made with team=a.
func (p provisioning) retagged(t *testing.T, arn string) {
	t.Helper()
	ctx := t.Context()
	_, err := p.iot.TagResource(ctx, &iot.TagResourceInput{ResourceArn: &arn, Tags: []types.Tag{{Key: aws.String("line"), Value: aws.String("7")}}})
	require.NoError(t, err)
	_, err = p.iot.UntagResource(ctx, &iot.UntagResourceInput{ResourceArn: &arn, TagKeys: []string{"none"}})
	require.NoError(t, err)
	out, err := p.iot.ListTagsForResource(ctx, &iot.ListTagsForResourceInput{ResourceArn: &arn})
	require.NoError(t, err)
	assert.Equal(t, []types.Tag{{Key: aws.String("line"), Value: aws.String("7")}, {Key: aws.String("team"), Value: aws.String("a")}}, out.Tags)
	_, err = p.iot.UntagResource(ctx, &iot.UntagResourceInput{ResourceArn: &arn, TagKeys: []string{"line", "team"}})
	require.NoError(t, err)
	out, err = p.iot.ListTagsForResource(ctx, &iot.ListTagsForResourceInput{ResourceArn: &arn})
	require.NoError(t, err)
	assert.Empty(t, out.Tags)
}

func (p provisioning) templatesRefused(t *testing.T) {
	ctx := t.Context()
	p.template(t, "taken")
	in := func(change func(*iot.CreateProvisioningTemplateInput)) *iot.CreateProvisioningTemplateInput {
		out := &iot.CreateProvisioningTemplateInput{TemplateName: aws.String("refused"), TemplateBody: aws.String(fleetTemplate), ProvisioningRoleArn: aws.String(roleARN)}
		change(out)
		return out
	}
	_, err := p.iot.CreateProvisioningTemplate(ctx, in(func(i *iot.CreateProvisioningTemplateInput) { i.TemplateName = aws.String("taken") }))
	taken := as[*types.ResourceAlreadyExistsException](t, err)
	assert.Equal(t, "taken", aws.ToString(taken.ResourceId))
	assert.Equal(t, iotARN+"provisioningtemplate/taken", aws.ToString(taken.ResourceArn))
	for name, change := range map[string]func(*iot.CreateProvisioningTemplateInput){
		"templateName": func(i *iot.CreateProvisioningTemplateInput) { i.TemplateName = aws.String("a.b") },
		"at most 36":   func(i *iot.CreateProvisioningTemplateInput) { i.TemplateName = aws.String(strings.Repeat("a", 37)) },
		"templateBody": func(i *iot.CreateProvisioningTemplateInput) { i.TemplateBody = aws.String("{") },
		"Resources.x.Type": func(i *iot.CreateProvisioningTemplateInput) {
			i.TemplateBody = aws.String(`{"Resources":{"x":{"Type":"y"}}}`)
		},
		"Fn::Base64": func(i *iot.CreateProvisioningTemplateInput) {
			i.TemplateBody = aws.String(`{"Resources":{"x":{"Fn::Base64":"y"}}}`)
		},
		"provisioningRoleArn": func(i *iot.CreateProvisioningTemplateInput) { i.ProvisioningRoleArn = aws.String("arn") },
		"preProvisioningHook": func(i *iot.CreateProvisioningTemplateInput) {
			i.PreProvisioningHook = &types.ProvisioningHook{TargetArn: aws.String("arn:aws:lambda")}
		},
		"type":        func(i *iot.CreateProvisioningTemplateInput) { i.Type = "OTHER" },
		"description": func(i *iot.CreateProvisioningTemplateInput) { i.Description = aws.String("a\nb") },
	} {
		_, err := p.iot.CreateProvisioningTemplate(ctx, in(change))
		refused := as[*types.InvalidRequestException](t, err)
		said := strings.Replace(refused.ErrorMessage(), "between 1 and 36", "at most 36", 1)
		assert.Contains(t, said, name)
	}
	_, err = p.iot.UpdateProvisioningTemplate(ctx, &iot.UpdateProvisioningTemplateInput{TemplateName: aws.String("taken"), DefaultVersionId: aws.Int32(7)})
	assert.Contains(t, as[*types.InvalidRequestException](t, err).ErrorMessage(), "defaultVersionId")
	for name, err := range map[string]error{
		"update": func() error {
			_, err := p.iot.UpdateProvisioningTemplate(ctx, &iot.UpdateProvisioningTemplateInput{TemplateName: aws.String("none")})
			return err
		}(),
		"delete": func() error {
			_, err := p.iot.DeleteProvisioningTemplate(ctx, &iot.DeleteProvisioningTemplateInput{TemplateName: aws.String("none")})
			return err
		}(),
		"version": func() error {
			_, err := p.iot.CreateProvisioningTemplateVersion(ctx, &iot.CreateProvisioningTemplateVersionInput{TemplateName: aws.String("none"), TemplateBody: aws.String(fleetTemplate)})
			return err
		}(),
		"versions": func() error {
			_, err := p.iot.ListProvisioningTemplateVersions(ctx, &iot.ListProvisioningTemplateVersionsInput{TemplateName: aws.String("none")})
			return err
		}(),
		"claim": func() error {
			_, err := p.iot.CreateProvisioningClaim(ctx, &iot.CreateProvisioningClaimInput{TemplateName: aws.String("none")})
			return err
		}(),
	} {
		t.Run(name, func(t *testing.T) { as[*types.ResourceNotFoundException](t, err) })
	}
	_, err = p.iot.ListProvisioningTemplates(ctx, &iot.ListProvisioningTemplatesInput{NextToken: aws.String("garbage")})
	as[*types.InvalidRequestException](t, err)
	var names []string
	for pages := iot.NewListProvisioningTemplatesPaginator(p.iot, &iot.ListProvisioningTemplatesInput{MaxResults: aws.Int32(1)}); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		require.NoError(t, err)
		for _, s := range page.Templates {
			names = append(names, *s.TemplateName)
		}
	}
	assert.Contains(t, names, "taken")
}

func (p provisioning) claim(t *testing.T) {
	p.template(t, "claimed")
	c, err := p.iot.CreateProvisioningClaim(t.Context(), &iot.CreateProvisioningClaimInput{TemplateName: aws.String("claimed")})
	require.NoError(t, err)
	pair, err := tls.X509KeyPair([]byte(*c.CertificatePem), []byte(*c.KeyPair.PrivateKey))
	require.NoError(t, err)
	assert.Equal(t, *c.CertificateId, pki.ID(pair.Certificate[0]))
	assert.WithinDuration(t, time.Now().Add(5*time.Minute), *c.Expiration, time.Minute)
	block, _ := pem.Decode([]byte(*c.KeyPair.PublicKey))
	require.NotNil(t, block)
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	require.NoError(t, err)
	assert.Equal(t, pair.Leaf.PublicKey, public)
}

func (p provisioning) endpoints(t *testing.T) {
	for _, kind := range []string{"", "iot:Data", "iot:Data-ATS", "iot:CredentialProvider", "iot:Jobs"} {
		in := &iot.DescribeEndpointInput{}
		if kind != "" {
			in.EndpointType = &kind
		}
		out, err := p.iot.DescribeEndpoint(t.Context(), in)
		require.NoError(t, err)
		assert.Equal(t, "localhost", *out.EndpointAddress, "a bare host, for %q", kind)
	}
	_, err := p.iot.DescribeEndpoint(t.Context(), &iot.DescribeEndpointInput{EndpointType: aws.String("iot:Nothing")})
	assert.Contains(t, as[*types.InvalidRequestException](t, err).ErrorMessage(), "endpointType")
	_, err = p.iot.DescribeEndpoint(t.Context(), &iot.DescribeEndpointInput{EndpointType: aws.String(strings.Repeat("x", 129))})
	as[*types.InvalidRequestException](t, err)
}

func (p provisioning) roleAliases(t *testing.T) {
	ctx := t.Context()
	var names []string
	for i := range 3 {
		name := fmt.Sprintf("alias=%d,@-", i)
		names = append(names, name)
		out, err := p.iot.CreateRoleAlias(ctx, &iot.CreateRoleAliasInput{
			RoleAlias: &name, RoleArn: aws.String(roleARN), Tags: []types.Tag{{Key: aws.String("team"), Value: aws.String("a")}},
		})
		require.NoError(t, err)
		assert.Equal(t, name, *out.RoleAlias)
		assert.Equal(t, iotARN+"rolealias/"+name, *out.RoleAliasArn)
	}
	p.retagged(t, iotARN+"rolealias/"+names[0])
	d, err := p.iot.DescribeRoleAlias(ctx, &iot.DescribeRoleAliasInput{RoleAlias: &names[0]})
	require.NoError(t, err)
	r := d.RoleAliasDescription
	assert.Equal(t, names[0], *r.RoleAlias)
	assert.Equal(t, roleARN, *r.RoleArn)
	assert.Equal(t, awsAccount, *r.Owner)
	assert.EqualValues(t, 3600, *r.CredentialDurationSeconds)
	assert.Equal(t, r.CreationDate, r.LastModifiedDate)

	_, err = p.iot.UpdateRoleAlias(ctx, &iot.UpdateRoleAliasInput{RoleAlias: &names[0], CredentialDurationSeconds: aws.Int32(900)})
	require.NoError(t, err)
	d, err = p.iot.DescribeRoleAlias(ctx, &iot.DescribeRoleAliasInput{RoleAlias: &names[0]})
	require.NoError(t, err)
	assert.EqualValues(t, 900, *d.RoleAliasDescription.CredentialDurationSeconds)
	assert.Equal(t, roleARN, *d.RoleAliasDescription.RoleArn, "what is not named stays")

	for _, ascending := range []bool{true, false} {
		var got []string
		for pages := iot.NewListRoleAliasesPaginator(p.iot, &iot.ListRoleAliasesInput{PageSize: aws.Int32(2), AscendingOrder: ascending}); pages.HasMorePages(); {
			page, err := pages.NextPage(ctx)
			require.NoError(t, err)
			for _, name := range page.RoleAliases {
				if slices.Contains(names, name) {
					got = append(got, name)
				}
			}
		}
		want := slices.Clone(names)
		if !ascending {
			slices.Reverse(want)
		}
		assert.Equal(t, want, got)
	}
	for _, name := range names {
		_, err = p.iot.DeleteRoleAlias(ctx, &iot.DeleteRoleAliasInput{RoleAlias: &name})
		require.NoError(t, err)
	}
	_, err = p.iot.DescribeRoleAlias(ctx, &iot.DescribeRoleAliasInput{RoleAlias: &names[0]})
	as[*types.ResourceNotFoundException](t, err)
}

func (p provisioning) roleAliasesRefused(t *testing.T) {
	ctx := t.Context()
	name := aws.String("alias-taken")
	_, err := p.iot.CreateRoleAlias(ctx, &iot.CreateRoleAliasInput{RoleAlias: name, RoleArn: aws.String(roleARN)})
	require.NoError(t, err)
	_, err = p.iot.CreateRoleAlias(ctx, &iot.CreateRoleAliasInput{RoleAlias: name, RoleArn: aws.String(roleARN)})
	taken := as[*types.ResourceAlreadyExistsException](t, err)
	assert.Equal(t, "alias-taken", aws.ToString(taken.ResourceId))
	for says, in := range map[string]*iot.CreateRoleAliasInput{
		"roleAlias":                 {RoleAlias: aws.String("a b"), RoleArn: aws.String(roleARN)},
		"roleArn":                   {RoleAlias: aws.String("x"), RoleArn: aws.String("arn:short")},
		"credentialDurationSeconds": {RoleAlias: aws.String("x"), RoleArn: aws.String(roleARN), CredentialDurationSeconds: aws.Int32(899)},
	} {
		_, err := p.iot.CreateRoleAlias(ctx, in)
		assert.Contains(t, as[*types.InvalidRequestException](t, err).ErrorMessage(), says)
	}
	_, err = p.iot.UpdateRoleAlias(ctx, &iot.UpdateRoleAliasInput{RoleAlias: name, CredentialDurationSeconds: aws.Int32(43201)})
	as[*types.InvalidRequestException](t, err)
	_, err = p.iot.UpdateRoleAlias(ctx, &iot.UpdateRoleAliasInput{RoleAlias: aws.String("none"), CredentialDurationSeconds: aws.Int32(900)})
	as[*types.ResourceNotFoundException](t, err)
	_, err = p.iot.DeleteRoleAlias(ctx, &iot.DeleteRoleAliasInput{RoleAlias: aws.String("none")})
	as[*types.ResourceNotFoundException](t, err)
	_, err = p.iot.ListRoleAliases(ctx, &iot.ListRoleAliasesInput{Marker: aws.String("garbage")})
	assert.Contains(t, as[*types.InvalidRequestException](t, err).ErrorMessage(), "marker")
	_, err = p.iot.ListRoleAliases(ctx, &iot.ListRoleAliasesInput{PageSize: aws.Int32(251)})
	as[*types.InvalidRequestException](t, err)
}

func (p provisioning) readOnly(t *testing.T) {
	id, secret := p.newAccessKey(t, map[string]any{"role": "viewer"})
	viewer := *p.kit
	viewer.AccessKey, viewer.Secret = id, secret
	c := viewer.IoT()
	_, err := c.ListRoleAliases(t.Context(), &iot.ListRoleAliasesInput{})
	require.NoError(t, err)
	_, err = c.CreateRoleAlias(t.Context(), &iot.CreateRoleAliasInput{RoleAlias: aws.String("viewer"), RoleArn: aws.String(roleARN)})
	as[*types.UnauthorizedException](t, err)
	_, err = c.RegisterThing(t.Context(), &iot.RegisterThingInput{TemplateBody: thingTemplate("CertificateId")})
	as[*types.UnauthorizedException](t, err)
}

// refusedByValue sends what the SDK would not.
func (p provisioning) refusedByValue(t *testing.T) {
	for path, says := range map[string]string{
		"POST /things":                                "templateBody",
		"POST /provisioning-templates":                "templateName",
		"GET /provisioning-templates/a.b":             "templateName",
		"DELETE /provisioning-templates/a/versions/x": "versionId",
		"POST /role-aliases/x":                        "roleArn",
		"GET /role-aliases?isAscendingOrder=yes":      "isAscendingOrder",
		"GET /jobs?status=DONE":                       "status",
		"GET /jobs/a.b":                               "jobId",
		"GET /things/x/jobs?maxResults=0":             "maxResults",
		"DELETE /things/x/jobs/y/executionNumber/z":   "executionNumber",
	} {
		method, target, _ := strings.Cut(path, " ")
		var body []byte
		if method != http.MethodGet {
			body = []byte("{}")
		}
		a := p.Raw(t, method, target, "execute-api", body)
		assert.Equal(t, http.StatusBadRequest, a.Status, path)
		assert.Equal(t, "InvalidRequestException", a.Header.Get("X-Amzn-ErrorType"), path)
		assert.Contains(t, string(a.Body), says, path)
	}
}
