package provisioning_test

import (
	"context"
	"crypto/rsa"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/provisioning"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/pki"
)

func named(name string) map[string]string { return map[string]string{"ThingName": name} }

func TestA21AThingByCSR(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		k.put("IntegrationTestTemplateWithCSR", byCSR, "")
		out, err := k.Provision(k.ctx, provisioning.NewThing{TemplateID: "IntegrationTestTemplateWithCSR", Parameters: map[string]string{"ThingName": "a21", "CSR": csr(t)}})
		require.NoError(t, err)
		assert.Equal(t, "arn:aws:iot:us-east-1:000000000000:thing/a21", out.ResourceARNs["thing"])
		assert.True(t, strings.HasPrefix(out.ResourceARNs["certificate"], "arn:aws:iot:"))
		assert.Equal(t, out.ResourceARNs["thing"], out.ResourceARNs["gw"])
		assert.Equal(t, out.ResourceARNs["certificate"], out.ResourceARNs["cert"])
		assert.Equal(t, out.ResourceARNs["pol"], out.ResourceARNs["policyLogicalName"], "Q-04")
		assert.Empty(t, out.PrivateKey)
		thing, _ := k.connects(out.CertificatePEM)
		assert.Equal(t, "a21", thing)
		d, err := k.Thing(k.ctx, "a21")
		require.NoError(t, err)
		require.Len(t, d.Certificates, 1)
		assert.Equal(t, out.ResourceARNs["certificate"], d.Certificates[0].ARN)

		_, err = k.Provision(k.ctx, provisioning.NewThing{TemplateID: "IntegrationTestTemplateWithCSR", Parameters: named("a")})
		require.ErrorIs(t, err, fault.Invalid)
		assert.Equal(t, "parameters.CSR", fault.FieldOf(err))
	})
}

func TestA22ACertificateIssuedByTheCloud(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		k.put("aws", byID, `{"createDeviceAWSCertificate":true}`)
		out, err := k.Provision(k.ctx, provisioning.NewThing{TemplateID: "aws", Parameters: named("a22")})
		require.NoError(t, err)
		assert.True(t, strings.HasSuffix(out.ResourceARNs["thing"], "thing/a22"))
		thing, cert := k.connects(out.CertificatePEM)
		assert.Equal(t, "a22", thing)
		key, err := pki.ParseKey([]byte(out.PrivateKey))
		require.NoError(t, err)
		assert.True(t, cert.PublicKey.(*rsa.PublicKey).Equal(key.Public()), "RSA as AWS makes them, and the key comes along")
		assert.Equal(t, 2048, cert.PublicKey.(*rsa.PublicKey).N.BitLen())

		_, err = k.tpl.Put(k.ctx, "fixed", []byte(strings.Replace(template(byID, `{"createDeviceAWSCertificate":true,"keyAlgorithm":"EC_P256"}`), `{"Ref":"ThingName"}`, `"always"`, 1)), provisioning.Any)
		require.NoError(t, err)
		_, err = k.Provision(k.ctx, provisioning.NewThing{TemplateID: "fixed"})
		require.NoError(t, err, "W-85: works without parameters")
	})
}

func TestTheThingMayReferToItsCertificate(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		_, err := k.tpl.Put(k.ctx, "late", []byte(strings.Replace(template(byID, `{"createDeviceAWSCertificate":true,"keyAlgorithm":"EC_P256"}`), `{"Ref":"ThingName"}}`, `{"Ref":"CertificateId"},"AttributePayload":{"arn":{"Ref":"CertificateArn"}}}`, 1)), provisioning.Any)
		require.NoError(t, err)
		out, err := k.Provision(k.ctx, provisioning.NewThing{TemplateID: "late"})
		require.NoError(t, err)
		_, cert := k.connects(out.CertificatePEM)
		assert.Equal(t, pki.ID(cert.Raw), out.ThingName)
		d, err := k.Thing(k.ctx, out.ThingName)
		require.NoError(t, err)
		assert.Equal(t, out.ResourceARNs["certificate"], d.Attributes["arn"])
	})
}

// foreign is a certificate of a CA that nobody knows.
func foreign(t *testing.T) string {
	t.Helper()
	ca, err := pki.NewRoot("elsewhere", time.Now(), 24*time.Hour*365)
	require.NoError(t, err)
	key, err := pki.NewKey(pki.P256)
	require.NoError(t, err)
	der, err := ca.SignClient(pki.Client{Public: key.Public(), NotAfter: time.Now().Add(24 * time.Hour)}, time.Now())
	require.NoError(t, err)
	return string(pki.EncodeCert(der))
}

func cdf(t *testing.T, v map[string]any) json.RawMessage {
	t.Helper()
	b, err := json.Marshal(v)
	require.NoError(t, err)
	return b
}

func TestACertificateRegisteredWithoutCA(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		k.put("own", byID, `{"registerDeviceCertificateWithoutCA":true}`)
		k.put("replaced", strings.TrimSuffix(byID, "}")+`,"Status":"ACTIVE"},"OverrideSettings":{"Status":"REPLACE"}`, `{"registerDeviceCertificateWithoutCA":true}`)
		for _, c := range []struct {
			template, status string
			want             cloud.CertificateStatus
		}{{"own", "ACTIVE", cloud.Active}, {"own", "INACTIVE", cloud.Inactive}, {"replaced", "INACTIVE", cloud.Active}} {
			pem := foreign(t)
			out, err := k.Provision(k.ctx, provisioning.NewThing{TemplateID: c.template, Parameters: named("x"), CDF: cdf(t, map[string]any{"certificatePem": pem, "certificateStatus": c.status})})
			require.NoError(t, err)
			assert.Equal(t, pem, out.CertificatePEM)
			assert.Empty(t, out.PrivateKey)
			d, err := k.Thing(k.ctx, "x")
			require.NoError(t, err)
			assert.Contains(t, d.Certificates, cloud.CertificateDetail{ID: idOf(t, pem), ARN: out.ResourceARNs["certificate"], Status: c.want, PEM: pem})
		}
	})
}

func idOf(t *testing.T, certificate string) string {
	t.Helper()
	list, err := pki.ParseCerts([]byte(certificate))
	require.NoError(t, err)
	return pki.ID(list[0].Raw)
}

func TestACertificateOfAPrivateCA(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		info := map[string]any{"commonName": "gw", "organization": "ACME", "organizationalUnit": "Line", "stateName": "Oslo", "locality": "Oslo", "country": "NO", "emailAddress": "a@b.no", "daysExpiry": 10}
		arn := k.world.Registry.PrivateCAARN()
		k.put("with", byID, `{"acmpca":{"mode":"REGISTER_WITH_CA"}}`)
		k.put("without", byID, `{"useACMPCA":"REGISTER_WITHOUT_CA"}`)
		for _, c := range []struct {
			name, template string
			cdf            map[string]any
		}{
			{"by ARNs", "with", map[string]any{"certInfo": info, "acmpcaCaArn": arn, "awsiotCaArn": k.world.Realm.CACertificate(pki.ID(k.world.CA.Root.Raw))}},
			{"an alias wins over an ARN, its case does not count", "with", map[string]any{"certInfo": info, "acmpcaCaAlias": "fACTORY", "acmpcaCaArn": "arn:none", "awsiotCaAlias": "Mine"}},
			{"misspelt as in the original's document", "without", map[string]any{"certInfo": info, "amcpcaCaAlias": "factory"}},
			{"the misspelt ARN", "without", map[string]any{"certInfo": info, "amcpcaCaArn": arn}},
			{"with a key of the device", "without", map[string]any{"certInfo": info, "acmpcaCaArn": arn, "csr": csr(t)}},
		} {
			out, err := k.Provision(k.ctx, provisioning.NewThing{TemplateID: c.template, Parameters: named("x"), CDF: cdf(t, c.cdf)})
			require.NoError(t, err, c.name)
			_, cert := k.connects(out.CertificatePEM)
			assert.Equal(t, "CN=gw,OU=Line,O=ACME,ST=Oslo,C=NO", cert.Subject.String(), "no locality, no e-mail")
			assert.WithinDuration(t, time.Now().Add(10*24*time.Hour), cert.NotAfter, time.Hour)
			chain, err := pki.ParseCerts([]byte(out.CertificatePEM))
			require.NoError(t, err)
			assert.Len(t, chain, 3, "certificate, newline, chain")
			require.NoError(t, chain[0].CheckSignatureFrom(chain[1]))
			if c.cdf["csr"] != nil {
				assert.Empty(t, out.PrivateKey, c.name)
				continue
			}
			key, err := pki.ParseKey([]byte(out.PrivateKey))
			require.NoError(t, err, "W-84: the key is returned")
			assert.Equal(t, cert.PublicKey, key.Public())
		}
	})
}

func TestWhatAPrivateCANeedsIsSaidInOrder(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		k.put("with", byID, `{"acmpca":{"mode":"REGISTER_WITH_CA"}}`)
		k.put("without", byID, `{"acmpca":{"mode":"REGISTER_WITHOUT_CA"}}`)
		for _, c := range []struct{ template, cdf, field string }{
			{"with", ``, "cdfProvisioningParameters"},
			{"with", `{}`, "cdfProvisioningParameters.awsiotCaArn"},
			{"with", `{"awsiotCaAlias":"none","awsiotCaArn":"x"}`, "cdfProvisioningParameters.awsiotCaAlias"},
			{"with", `{"awsiotCaAlias":"mine"}`, "cdfProvisioningParameters.acmpcaCaArn"},
			{"without", `{"acmpcaCaAlias":"none"}`, "cdfProvisioningParameters.acmpcaCaAlias"},
			{"without", `{"acmpcaCaAlias":"factory"}`, "cdfProvisioningParameters.certInfo"},
			{"without", `{"acmpcaCaAlias":"factory","certInfo":{}}`, "cdfProvisioningParameters.certInfo"},
			{"without", `{"acmpcaCaAlias":"factory","certInfo":{"country":"NO"},"csr":"x"}`, "cdfProvisioningParameters.csr"},
		} {
			k.untouched(func() {
				_, err := k.Provision(k.ctx, provisioning.NewThing{TemplateID: c.template, Parameters: named("x"), CDF: json.RawMessage(c.cdf)})
				require.ErrorIs(t, err, fault.Invalid, c.cdf)
				assert.Equal(t, c.field, fault.FieldOf(err), c.cdf)
			})
		}
	})
}

func TestAFailureLeavesNothing(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		k.put("nopolicy", byID, `{"createDeviceAWSCertificate":true,"keyAlgorithm":"EC_P256","attachAdditionalPolicies":[{"name":"made","document":"{\"Version\":\"2012-10-17\",\"Statement\":[{\"Effect\":\"Allow\",\"Action\":\"iot:Publish\",\"Resource\":\"*\"}]}"},{"name":"NoSuchPolicy"}]}`)
		k.put("bulkless", byID, `{"registerDeviceCertificateWithoutCA":true}`)
		k.put("default", byPEM, `{"createDeviceCertificate":true}`)
		_, err := k.tpl.Put(k.ctx, "fails", []byte(strings.Replace(template(byID, `{"createDeviceAWSCertificate":true,"keyAlgorithm":"EC_P256"}`), `{"Ref":"ThingName"}}`, `{"Ref":"ThingName"}},"OverrideSettings":{"AttributePayload":"FAIL"}`, 1)), provisioning.Any)
		require.NoError(t, err)
		_, err = k.Provision(k.ctx, provisioning.NewThing{TemplateID: "fails", Parameters: named("there")})
		require.NoError(t, err)
		for _, c := range []struct {
			name, template, thing, cdf string
			kind                       fault.Kind
			says                       string
		}{
			{"an unknown template", "none", "x", "", fault.Invalid, "INVALID_PROVISIONING_TEMPLATE: none"},
			{"an unknown policy in the last step", "nopolicy", "x", "", fault.NotFound, "NoSuchPolicy"},
			{"no certificate", "bulkless", "x", "", fault.Invalid, "certificatePem"},
			{"no status", "bulkless", "x", `{"certificatePem":"x"}`, fault.Invalid, "certificateStatus"},
			{"a status that is none", "bulkless", "x", `{"certificatePem":"x","certificateStatus":"REVOKED"}`, fault.Invalid, "certificateStatus"},
			{"a certificate that is none", "bulkless", "x", `{"certificatePem":"x","certificateStatus":"ACTIVE"}`, fault.Invalid, "certificatePem"},
			{"an unknown CA", "default", "x", `{"caId":"1234"}`, fault.NotFound, "1234"},
			{"a country of three letters", "default", "x", `{"certInfo":{"country":"NOR"}}`, fault.Invalid, "cdfProvisioningParameters.certInfo.country"},
			{"a thing that must not exist", "fails", "there", "", fault.Invalid, "REGISTRATION_FAILED: "},
		} {
			k.untouched(func() {
				_, err := k.Provision(k.ctx, provisioning.NewThing{TemplateID: c.template, Parameters: named(c.thing), CDF: json.RawMessage(c.cdf)})
				require.ErrorIs(t, err, c.kind, c.name)
				assert.ErrorContains(t, err, c.says, c.name)
			})
		}
	})
}

func TestPoliciesOfTheCDFSection(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		const document = `"document":"{\"Version\":\"2012-10-17\",\"Statement\":[{\"Effect\":\"Allow\",\"Action\":\"iot:Publish\",\"Resource\":\"*\"}]}"`
		k.put("t", byPEM, `{"createDeviceCertificate":true,"clientIdMustMatchThingName":true,"attachAdditionalPolicies":{"policies":[{"name":"made",`+document+`},{"name":"made",`+document+`},{"name":"CDFGreengrass2CorePolicy"}]}}`)
		var first []cloud.PolicyDetail
		for range 2 {
			_, err := k.Provision(k.ctx, provisioning.NewThing{TemplateID: "t", Parameters: named("x")})
			require.NoError(t, err)
			d, err := k.Thing(k.ctx, "x")
			require.NoError(t, err)
			if first == nil {
				first = d.Policies
			}
			assert.Equal(t, first, d.Policies, "W-86: the same document is the same policy")
		}
		require.Len(t, first, 3)
		assert.Contains(t, first[1].Document, "arn:aws:iot:us-east-1:000000000000:client/x", "W-81: of this account")
	})
}

func TestACertificateThatTheCloudKnows(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		k.put("csr", byCSR, "")
		k.put("id", byID, "")
		k.put("pem", byPEM, "")
		first, err := k.Provision(k.ctx, provisioning.NewThing{TemplateID: "csr", Parameters: map[string]string{"ThingName": "a", "CSR": csr(t)}})
		require.NoError(t, err)
		id := idOf(t, first.CertificatePEM)
		out, err := k.Provision(k.ctx, provisioning.NewThing{TemplateID: "id", Parameters: map[string]string{"ThingName": "b", "CertificateId": id, "Undeclared": "dropped (Q-03)"}})
		require.NoError(t, err)
		assert.Equal(t, first.CertificatePEM, out.CertificatePEM, "the one that the cloud holds")
		assert.Equal(t, first.ResourceARNs["certificate"], out.ResourceARNs["certificate"])
		_, err = k.Provision(k.ctx, provisioning.NewThing{TemplateID: "id", Parameters: map[string]string{"ThingName": "c", "CertificateId": strings.Repeat("a", 64)}})
		require.ErrorIs(t, err, fault.NotFound)
		_, err = k.Provision(k.ctx, provisioning.NewThing{TemplateID: "pem", Parameters: map[string]string{"ThingName": "c", "CertificatePem": first.CertificatePEM}})
		require.NoError(t, err)
		for _, name := range []string{"a", "b", "c"} {
			d, err := k.Thing(k.ctx, name)
			require.NoError(t, err)
			require.Len(t, d.Certificates, 1)
		}

		require.NoError(t, k.Delete(k.ctx, "b"))
		require.ErrorIs(t, k.Delete(k.ctx, "b"), fault.NotFound)
		d, err := k.Thing(k.ctx, "a")
		require.NoError(t, err)
		assert.Len(t, d.Certificates, 1, "W-83: what another thing shares stays")
		assert.Len(t, d.Policies, 1, "W-83: with its policies")
	})
}

func TestTheStatusOfAThingsCertificates(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		k.put("t", byPEM, `{"createDeviceCertificate":true}`)
		for range 2 {
			_, err := k.Provision(k.ctx, provisioning.NewThing{TemplateID: "t", Parameters: named("x")})
			require.NoError(t, err)
		}
		for _, c := range []struct{ set, want cloud.CertificateStatus }{{"INACTIVE", cloud.Inactive}, {"ACTIVE", cloud.Active}, {"IN_ACTIVE", cloud.Inactive}, {"REVOKED", cloud.Revoked}} {
			require.NoError(t, k.SetCertificates(k.ctx, "x", c.set))
			d, err := k.Thing(k.ctx, "x")
			require.NoError(t, err)
			require.Len(t, d.Certificates, 2)
			for _, x := range d.Certificates {
				assert.Equal(t, c.want, x.Status)
			}
		}
		for _, s := range []cloud.CertificateStatus{"", "active", "PENDING_TRANSFER"} {
			require.ErrorIs(t, k.SetCertificates(k.ctx, "x", s), fault.Invalid)
		}
		require.ErrorIs(t, k.SetCertificates(k.ctx, "none", cloud.Active), fault.NotFound)
	})
}

func TestThingsInBulk(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		k.put("csr", byCSR, "")
		k.put("extended", byCSR, "{}")
		for _, c := range []struct {
			n    provisioning.NewBulk
			says string
		}{
			{provisioning.NewBulk{TemplateID: "extended", Things: []map[string]string{{}}}, "REGISTRATION_FAILED: "},
			{provisioning.NewBulk{TemplateID: "none", Things: []map[string]string{{}}}, "INVALID_PROVISIONING_TEMPLATE: none"},
			{provisioning.NewBulk{TemplateID: "csr"}, "parameters: "},
			{provisioning.NewBulk{TemplateID: "csr", Things: []map[string]string{{}, {"CSR": strings.Repeat("x", 4097)}}}, "parameters[1].CSR: "},
			{provisioning.NewBulk{TemplateID: "../x", Things: []map[string]string{{}}}, "provisioningTemplateId: "},
		} {
			_, err := k.CreateBulk(k.ctx, c.n, "")
			require.ErrorIs(t, err, fault.Invalid)
			assert.ErrorContains(t, err, c.says, "W-88")
		}
		_, err := k.Bulk(k.ctx, "none")
		require.ErrorIs(t, err, fault.NotFound, "W-88")
		n := provisioning.NewBulk{TemplateID: "csr", Things: []map[string]string{
			{"ThingName": "a", "CSR": csr(t)}, {"ThingName": "b", "CSR": csr(t)}, {"ThingName": "b", "CSR": csr(t)}, {"ThingName": "c"}, {"ThingName": "d e", "CSR": csr(t)},
		}}
		id, err := k.CreateBulk(k.ctx, n, "key")
		require.NoError(t, err)
		same, err := k.CreateBulk(k.ctx, n, "key")
		require.NoError(t, err)
		assert.Equal(t, id, same)
		time.Sleep(time.Minute) // virtual
		out, err := k.Bulk(k.ctx, id)
		require.NoError(t, err)
		assert.Equal(t, provisioning.Bulk{TaskID: id, Status: provisioning.BulkCompleted, CreatedAt: out.CreatedAt, UpdatedAt: out.UpdatedAt, Success: 3, Failure: 2, Percentage: 100}, out)
		for name, certificates := range map[string]int{"a": 1, "b": 2} {
			d, err := k.Thing(k.ctx, name)
			require.NoError(t, err)
			assert.Len(t, d.Certificates, certificates)
		}
	})
}

// slowCA never answers.
type slowCA struct{ provisioning.Cloud }

func (slowCA) IssuePrivate(ctx context.Context, _ string, _ cloud.PrivateRequest) (cloud.PrivateCertificate, error) {
	<-ctx.Done()
	return cloud.PrivateCertificate{}, ctx.Err()
}

func TestW87APrivateCAIsNotAwaitedForEver(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		k.put("t", byID, `{"acmpca":{"mode":"REGISTER_WITHOUT_CA"}}`)
		p, err := provisioning.NewProvisioner(provisioning.Config{Cloud: slowCA{k.world}, Templates: k.tpl})
		require.NoError(t, err)
		_, err = p.Prepare(k.ctx, provisioning.Request{Template: "t", Parameters: named("x"), CDF: json.RawMessage(`{"acmpcaCaArn":"arn:x","certInfo":{"country":"NO"}}`)})
		require.ErrorIs(t, err, fault.Unavailable)
	})
}

func TestTheSubjectIsWhatTheRequestSays(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		k.put("t", byPEM, `{"createDeviceCertificate":true}`)
		for _, c := range []struct {
			info map[string]any
			want string
			days int
		}{
			{map[string]any{"commonName": "gw", "organization": "ACME", "organizationalUnit": "Line", "locality": "Bergen", "stateName": "Vestland", "country": "NO", "daysExpiry": 10}, "CN=gw,OU=Line,O=ACME,L=Bergen,ST=Vestland,C=NO", 10},
			{map[string]any{"country": "NO"}, "C=NO", 365},
			{nil, "CN=x", 365},
		} {
			n := provisioning.NewThing{TemplateID: "t", Parameters: named("x")}
			if c.info != nil {
				n.CDF = cdf(t, map[string]any{"certInfo": c.info, "caId": k.world.CA.ID})
			}
			out, err := k.Provision(k.ctx, n)
			require.NoError(t, err)
			_, cert := k.connects(out.CertificatePEM)
			assert.Equal(t, c.want, cert.Subject.String())
			assert.WithinDuration(t, time.Now().Add(min(time.Duration(c.days)*24*time.Hour, 300*24*time.Hour)), cert.NotAfter, time.Hour, "cut to the end of its CA")
		}
	})
}
