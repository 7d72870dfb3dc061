package provisioning_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/object/memory"
	"github.com/ggfleet/ggfleet/controlplane/internal/provisioning"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/pki"
)

func bind(t *testing.T, document string, parameters map[string]string) *provisioning.Plan {
	tpl, err := provisioning.Parse([]byte(document))
	require.NoError(t, err)
	p, err := provisioning.Bind(tpl, parameters)
	require.NoError(t, err)
	return p
}

func TestTheDefaultTemplateMakesThingCertificateAndPolicies(t *testing.T) {
	tpl, err := provisioning.Parse(provisioning.DefaultTemplate)
	require.NoError(t, err)
	assert.Equal(t, "thing", tpl.ThingLogicalName())
	assert.Equal(t, "certificate", tpl.CertificateLogicalName())
	p, err := provisioning.Bind(tpl, map[string]string{"ThingName": "gw-0001", "Undeclared": strings.Repeat("x", 9999)})
	require.NoError(t, err)
	assert.Equal(t, &provisioning.Plan{
		ThingName: "gw-0001",
		Overrides: provisioning.ThingOverrides{Type: "REPLACE", Attributes: "DO_NOTHING", Groups: "DO_NOTHING"},
		Certificate: provisioning.Certificate{
			Source: provisioning.SourceCreate, Status: "ACTIVE", Override: "REPLACE", KeyAlgorithm: pki.P256,
		},
		Policies:           []provisioning.PolicyRef{{Name: "CDFGreengrass2CorePolicy", Logical: "policy"}},
		AdditionalPolicies: []provisioning.PolicyRef{{Name: "myTokenExchangeRoleAliasPolicy"}},
	}, p)
}

const csrTemplate = `{
  "Parameters": {"ThingName": {"Type":"String"}, "CSR": {"Type":"String"}, "Site": {"Type":"String","Default":"unknown"}, "Group": {"Type":"String","Default":"gateways"}},
  "Resources": {
    "gw": {"Type":"AWS::IoT::Thing",
      "Properties": {"ThingName":{"Ref":"ThingName"},"ThingTypeName":"Gateway","AttributePayload":{"site":{"Ref":"Site"},"kind":"edge"},"ThingGroups":["gateways",{"Ref":"Group"},"north"]},
      "OverrideSettings": {"ATTRIBUTE_PAYLOAD":"MERGE","ThingGroups":"FAIL"}},
    "cert": {"Type":"AWS::IoT::Certificate","Properties":{"CertificateSigningRequest":{"Ref":"CSR"},"Status":"INACTIVE"}},
    "p1": {"Type":"AWS::IoT::Policy","Properties":{"PolicyName":"Core"}},
    "p2": {"Type":"AWS::IoT::Policy","Properties":{"PolicyDocument":"{\"Version\":\"2012-10-17\",\"Statement\":[]}"}}},
  "CDF": {"attachAdditionalPolicies":{"policies":[{"name":"Core"},{"name":"Extra"},{"name":"Own","document":"{\"Version\":\"2012-10-17\",\"Statement\":[]}"}]},"clientIdMustEqualThingName":true}}`

func TestACoreWithoutCSRIsCompletedLater(t *testing.T) {
	p := bind(t, csrTemplate, map[string]string{"ThingName": "gw-1"})
	assert.Equal(t, provisioning.SourceDeferred, p.Certificate.Source)
	assert.Equal(t, provisioning.Inactive, p.Certificate.Status)

	p = bind(t, csrTemplate, map[string]string{"ThingName": "gw-1", "CSR": "-----BEGIN"})
	assert.Equal(t, provisioning.SourceCSR, p.Certificate.Source)
	assert.Equal(t, "-----BEGIN", p.Certificate.CSR)
}

func TestAStatusIsUnderstoodInAnyCase(t *testing.T) {
	for written, want := range map[string]provisioning.Status{"Active": provisioning.Active, "Inactive": provisioning.Inactive, "Pending_Activation": provisioning.PendingActivation} {
		p := bind(t, strings.Replace(csrTemplate, `"INACTIVE"`, `"`+written+`"`, 1), map[string]string{"ThingName": "gw-1"})
		assert.Equal(t, want, p.Certificate.Status)
	}
}

func TestParametersFillEveryText(t *testing.T) {
	p := bind(t, csrTemplate, map[string]string{"ThingName": "gw-1", "Site": "Oslo"})
	assert.Equal(t, "Gateway", p.ThingType)
	assert.Equal(t, map[string]string{"site": "Oslo", "kind": "edge"}, p.Attributes)
	assert.Equal(t, []string{"gateways", "north"}, p.Groups, "a group named twice is there once")
	assert.Equal(t, provisioning.ThingOverrides{Type: "DO_NOTHING", Attributes: "MERGE", Groups: "FAIL"}, p.Overrides)
	assert.Equal(t, "unknown", bind(t, csrTemplate, map[string]string{"ThingName": "gw-1"}).Attributes["site"])
}

func TestAPolicyNamedTwiceIsAttachedOnce(t *testing.T) {
	p := bind(t, csrTemplate, map[string]string{"ThingName": "gw-1"})
	require.Len(t, p.Policies, 2)
	assert.Equal(t, "Core", p.Policies[0].Name)
	assert.Len(t, p.Policies[1].Name, 64, "a policy without name is named by its content")
	require.Len(t, p.AdditionalPolicies, 2)
	assert.Equal(t, provisioning.PolicyRef{Name: "Extra"}, p.AdditionalPolicies[0])
	assert.Regexp(t, `^Own_[0-9a-f]{12}$`, p.AdditionalPolicies[1].Name)
	assert.True(t, p.ClientIDMustMatchThingName)
	own := p.ClientIDPolicy("eu-west-1", "000000000000")
	assert.Equal(t, "clientIdEnforcementPolicy_gw-1", own.Name)
	assert.Contains(t, own.Document, `"arn:aws:iot:eu-west-1:000000000000:client/gw-1"`)
}

// with is the smallest template, with parts put in place.
func with(parts ...string) string {
	doc := `{"Parameters":{"ThingName":{"Type":"String"}PARAMS},"Resources":{"thing":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":{"Ref":"ThingName"}THING}OVERRIDE}RES},"CDF":{CDF}}`
	for i := 0; i < len(parts); i += 2 {
		doc = strings.Replace(doc, parts[i], parts[i+1], 1)
	}
	for _, p := range []string{"PARAMS", "THING", "OVERRIDE", "RES", "CDF}}"} {
		to := ""
		if p == "CDF}}" {
			to = "}}"
		}
		doc = strings.Replace(doc, p, to, 1)
	}
	return doc
}

func TestParseNamesWhatIsWrong(t *testing.T) {
	cert := `,"c":{"Type":"AWS::IoT::Certificate","Properties":`
	for name, tc := range map[string]struct{ doc, field, text string }{
		"unknown thing property":   {with("THING", `,"X":1`), "Resources.thing.Properties.X", ""},
		"unknown resource member":  {with("OVERRIDE", `,"Extra":{}`), "Resources.thing.Extra", ""},
		"unknown resource type":    {with("RES", `,"b":{"Type":"AWS::S3::Bucket"}`), "Resources.b.Type", "AWS::S3::Bucket"},
		"two things":               {with("RES", `,"b":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":"x"}}`), "Resources.b", "second"},
		"merge of a thing type":    {with("OVERRIDE", `,"OverrideSettings":{"ThingTypeName":"MERGE"}`), "Resources.thing.OverrideSettings.ThingTypeName", "MERGE"},
		"undeclared reference":     {with("THING", `,"ThingGroups":["a",{"Ref":"Nope"}]`), "Resources.thing.Properties.ThingGroups[1].Ref", "Nope"},
		"function":                 {with("THING", `,"ThingTypeName":{"Fn::Join":["",[]]}`), "Resources.thing.Properties.ThingTypeName", "Fn::Join"},
		"number as text":           {with("THING", `,"ThingTypeName":5`), "Resources.thing.Properties.ThingTypeName", "text"},
		"parameter type":           {with("PARAMS", `,"N":{"Type":"Number"}`), "Parameters.N.Type", "Number"},
		"two certificate sources":  {with("RES", cert+`{"CertificateId":"a","CertificatePem":"b"}}`), "Resources.c.Properties", "exactly one"},
		"status":                   {with("RES", cert+`{"CertificateId":"a","Status":"On"}}`), "Resources.c.Properties.Status", "On"},
		"member twice":             {with("THING", `,"ThingName":"b"`), "Resources.thing.Properties.ThingName", "twice"},
		"policies, no certificate": {with("RES", `,"p":{"Type":"AWS::IoT::Policy","Properties":{"PolicyName":"P"}}`), "Resources", "no AWS::IoT::Certificate"},
		"created, not referred to": {with("CDF}}", `"createDeviceCertificate":true}}`), "CDF.createDeviceCertificate", "CertificatePem"},
		"flag as text":             {with("CDF}}", `"createDeviceCertificate":"true"}}`), "CDF.createDeviceCertificate", "true or false"},
		"unknown option":           {with("CDF}}", `"nope":1}}`), "CDF.nope", ""},
		"key algorithm":            {with("CDF}}", `"keyAlgorithm":"DSA"}}`), "CDF.keyAlgorithm", "EC_P256"},
		"mode of acmpca":           {with("CDF}}", `"acmpca":{"mode":"x"}}}`), "CDF.acmpca.mode", "REGISTER_WITH_CA"},
		"additional without name":  {with("CDF}}", `"attachAdditionalPolicies":[{"document":"{}"}]}}`), "CDF.attachAdditionalPolicies[0].name", "missing"},
		"fleet template":           {`{"Mappings":{},"Resources":{}}`, "Mappings", "fleet provisioning"},
		"no resources":             {`{}`, "Resources", "missing"},
		"no thing":                 {`{"Resources":{}}`, "Resources", "AWS::IoT::Thing"},
		"syntax":                   {`{"Resources":{},}`, "", "at byte 17"},
		"two documents":            {`{} {}`, "", "at byte 4"},
		"not an object":            {`[]`, "", "object"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := provisioning.Parse([]byte(tc.doc))
			require.ErrorIs(t, err, fault.Invalid, tc.doc)
			assert.Equal(t, tc.field, fault.FieldOf(err), err)
			assert.ErrorContains(t, err, tc.text)
		})
	}
	_, err := provisioning.Parse([]byte(`{"a":"` + strings.Repeat("x", provisioning.MaxTemplate) + `"}`))
	require.ErrorIs(t, err, fault.TooLarge)
}

func TestBindNamesWhatIsMissing(t *testing.T) {
	cert := `,"c":{"Type":"AWS::IoT::Certificate","Properties":`
	for name, tc := range map[string]struct {
		doc    string
		given  map[string]string
		kind   fault.Kind
		field  string
		detail string
	}{
		"no value":             {with(), nil, fault.Invalid, "parameters.ThingName", "no default"},
		"long value":           {with(), map[string]string{"ThingName": strings.Repeat("x", 4097)}, fault.Invalid, "parameters.ThingName", "4096"},
		"bad thing name":       {with(), map[string]string{"ThingName": "a b"}, fault.Invalid, "Resources.thing.Properties.ThingName", "a b"},
		"bad certificate id":   {with("RES", cert+`{"CertificateId":"a"}}`), map[string]string{"ThingName": "a"}, fault.Invalid, "Resources.c.Properties.CertificateId", "hexadecimal"},
		"bad certificate":      {with("RES", cert+`{"CertificatePem":"a"}}`), map[string]string{"ThingName": "a"}, fault.Invalid, "Resources.c.Properties.CertificatePem", ""},
		"filled by the server": {string(provisioning.DefaultTemplate), map[string]string{"ThingName": "a", "CertificatePem": "x"}, fault.Invalid, "parameters.CertificatePem", "createDeviceCertificate"},
	} {
		t.Run(name, func(t *testing.T) {
			tpl, err := provisioning.Parse([]byte(tc.doc))
			require.NoError(t, err)
			_, err = provisioning.Bind(tpl, tc.given)
			require.ErrorIs(t, err, tc.kind)
			assert.Equal(t, tc.field, fault.FieldOf(err), err)
			assert.ErrorContains(t, err, tc.detail)
		})
	}
}

func TestTheFirstPreStepWins(t *testing.T) {
	doc := strings.Replace(string(provisioning.DefaultTemplate), `"createDeviceCertificate": true,`, `"acmpca": {"mode":"REGISTER_WITH_CA"}, "keyAlgorithm": "RSA_2048", "createDeviceCertificate": true,`, 1)
	p := bind(t, doc, map[string]string{"ThingName": "a"})
	assert.Equal(t, provisioning.SourceCreate, p.Certificate.Source)
	assert.Equal(t, pki.RSA2048, p.Certificate.KeyAlgorithm)
}

func TestTemplatesAreKeptAsGiven(t *testing.T) {
	tpls := provisioning.NewTemplates(memory.New("artifacts"))
	ctx := t.Context()
	_, err := tpls.Get(ctx, "default")
	require.ErrorIs(t, err, fault.NotFound)
	assert.ErrorContains(t, err, "INVALID_PROVISIONING_TEMPLATE: default")
	first, err := tpls.Put(ctx, "default", provisioning.DefaultTemplate, provisioning.IfAbsent)
	require.NoError(t, err)
	_, err = tpls.Put(ctx, "second", []byte(with()), provisioning.Any)
	require.NoError(t, err)
	raw, etag, err := tpls.Document(ctx, "default")
	require.NoError(t, err)
	assert.Equal(t, provisioning.DefaultTemplate, raw)
	assert.Equal(t, first, etag)
	_, err = tpls.Get(ctx, "default")
	require.NoError(t, err)
	for _, c := range []struct {
		after string
		count int
		want  []string
	}{{"", 0, []string{"default", "second"}}, {"default", 0, []string{"second"}}, {"", 1, []string{"default"}}, {"second", 5, nil}} {
		list, err := tpls.List(ctx, c.after, c.count)
		require.NoError(t, err)
		var ids []string
		for _, i := range list {
			ids = append(ids, i.ID)
			assert.Positive(t, i.Size)
		}
		assert.Equal(t, c.want, ids)
	}
	_, err = tpls.Put(ctx, "../x", provisioning.DefaultTemplate, provisioning.Any)
	require.ErrorIs(t, err, fault.Invalid)
	_, err = tpls.Put(ctx, "bad", []byte(`{}`), provisioning.Any)
	require.ErrorIs(t, err, fault.Invalid)
}

func TestATemplateIsChangedOnlyAsTheCallerKnowsIt(t *testing.T) {
	tpls := provisioning.NewTemplates(memory.New("artifacts"))
	ctx := t.Context()
	require.ErrorIs(t, tpls.Delete(ctx, "t", provisioning.Any), fault.NotFound)
	for _, m := range []provisioning.Match{provisioning.IfExists, "00"} {
		_, err := tpls.Put(ctx, "t", provisioning.DefaultTemplate, m)
		require.ErrorIs(t, err, fault.Stale, "there is none: %s", m)
	}
	old, err := tpls.Put(ctx, "t", provisioning.DefaultTemplate, provisioning.IfAbsent)
	require.NoError(t, err)
	_, err = tpls.Put(ctx, "t", provisioning.DefaultTemplate, provisioning.IfAbsent)
	require.ErrorIs(t, err, fault.Stale)
	now, err := tpls.Put(ctx, "t", provisioning.DeviceKeyTemplate, provisioning.Match(old))
	require.NoError(t, err)
	assert.NotEqual(t, old, now)
	_, err = tpls.Put(ctx, "t", provisioning.DefaultTemplate, provisioning.Match(old))
	require.ErrorIs(t, err, fault.Stale)
	require.ErrorIs(t, tpls.Delete(ctx, "t", provisioning.Match(old)), fault.Stale)
	require.NoError(t, tpls.Delete(ctx, "t", provisioning.Match(now)))
	_, _, err = tpls.Document(ctx, "t")
	require.ErrorIs(t, err, fault.NotFound)
}

func FuzzParse(f *testing.F) {
	f.Add(provisioning.DefaultTemplate)
	f.Add([]byte(csrTemplate))
	f.Add([]byte(with("CDF}}", `"acmpca":{"mode":"REGISTER_WITH_CA"}}}`)))
	f.Fuzz(func(t *testing.T, b []byte) {
		tpl, err := provisioning.Parse(b)
		if err != nil {
			if k := fault.KindOf(err); k != fault.Invalid && k != fault.TooLarge {
				t.Fatalf("kind %q: %v", k, err)
			}
			return
		}
		p, err := provisioning.Bind(tpl, map[string]string{"ThingName": "gw-1"})
		if (p == nil) == (err == nil) {
			t.Fatalf("plan %v with error %v", p, err)
		}
	})
}

func TestTheDeviceKeyTemplateWaitsForTheCSR(t *testing.T) {
	tpl, err := provisioning.Parse(provisioning.DeviceKeyTemplate)
	require.NoError(t, err)
	p, err := provisioning.Bind(tpl, map[string]string{"ThingName": "gw-1"})
	require.NoError(t, err)
	assert.Equal(t, provisioning.SourceDeferred, p.Certificate.Source)
	assert.Len(t, append(p.Policies, p.AdditionalPolicies...), 2)
}
