package e2e_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/test/internal/world"
)

const (
	itCSRThing    = "IntegrationTestThingWithCSR"
	itIssuedThing = "IntegrationTestThingWithCertificateId"
	itPCAThing    = "IntegrationTestThingWithACMPCA"
)

// thingTemplate is a provisioning template whose certificate has one property.
func thingTemplate(property, parameter string, cdf object) object {
	return object{
		"Parameters": object{"ThingName": object{"Type": "String"}, parameter: object{"Type": "String"}},
		"Resources": object{
			"thing":       object{"Type": "AWS::IoT::Thing", "Properties": object{"ThingName": object{"Ref": "ThingName"}}},
			"certificate": object{"Type": "AWS::IoT::Certificate", "Properties": object{property: object{"Ref": parameter}, "Status": "ACTIVE"}},
			"policy":      object{"Type": "AWS::IoT::Policy", "Properties": object{"PolicyName": "CDFGreengrass2CorePolicy"}},
		},
		"CDF": cdf,
	}
}

func csr(t *testing.T) (pemText string, key crypto.Signer) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "any"}}, key)
	require.NoError(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})), key
}

// provisioning is provisioning/basic.feature and acmpca.feature.
type provisioning struct{ feature }

func TestProvisioningFeature(t *testing.T) {
	f := provisioning{newFeature(t, world.Options{})}
	for id, template := range map[string]object{
		"IntegrationTestTemplateWithCSR":           thingTemplate("CertificateSigningRequest", "CSR", object{}),
		"IntegrationTestTemplateWithCertificateId": thingTemplate("CertificateId", "CertificateId", object{"createDeviceAWSCertificate": true}),
		"IntegrationTestTemplateWithACMPCA":        thingTemplate("CertificateId", "CertificateId", object{"acmpca": object{"mode": "REGISTER_WITH_CA"}}),
		"IntegrationTestTemplateWithoutCA":         thingTemplate("CertificateId", "CertificateId", object{"acmpca": object{"mode": "REGISTER_WITHOUT_CA"}}),
	} {
		f.send(t, http.MethodPut, "/provisioningTemplates/"+id, template).is(http.StatusNoContent)
	}
	absent := func(names ...string) func(*testing.T) {
		return func(t *testing.T) {
			for _, n := range names {
				f.send(t, http.MethodDelete, "/things/"+n, nil)
				f.missing(t, "/things/"+n)
			}
		}
	}
	f.play(
		scenario{"A-20 Setup", absent(itCSRThing, itIssuedThing)},
		scenario{"A-21 Provision a thing by CSR", func(t *testing.T) {
			request, key := csr(t)
			made := f.provision(t, object{
				"provisioningTemplateId": "IntegrationTestTemplateWithCSR", "parameters": object{"ThingName": itCSRThing, "CSR": request},
			}, itCSRThing).lacks("privateKey")
			assert.Equal(t, key.Public(), certificate(t, made.text("certificatePem")).PublicKey, "the certificate is for the key of the CSR")
		}},
		scenario{"A-22 Provision a thing with a certificate of the cloud's", func(t *testing.T) {
			made := f.provision(t, object{
				"provisioningTemplateId": "IntegrationTestTemplateWithCertificateId", "parameters": object{"ThingName": itIssuedThing},
			}, itIssuedThing)
			assert.Contains(t, made.text("privateKey"), "PRIVATE KEY")
		}},
		scenario{"A-23 Teardown", absent(itCSRThing, itIssuedThing)},
		scenario{"A-24 Setup of ACM PCA", absent(itPCAThing)},
		// Commented out there, for want of a CA: here it is our own. The first thing
		// tells which it is, the second is registered with it.
		scenario{"Provision things with certificates of a private CA", func(t *testing.T) {
			authority := f.get(t, "/system").is(http.StatusOK).text("privateCaArn")
			registered := f.provisionPrivate(t, "IntegrationTestTemplateWithoutCA", object{"acmpcaCaArn": authority})
			f.send(t, http.MethodDelete, "/things/"+itPCAThing, nil).is(http.StatusNoContent)
			f.provisionPrivate(t, "IntegrationTestTemplateWithACMPCA", object{"acmpcaCaArn": authority, "awsiotCaArn": registered})
		}},
		scenario{"A-25 Teardown of ACM PCA", absent(itPCAThing)},
	)
}

// provision makes a thing and looks at it as the original's steps do.
func (f provisioning) provision(t *testing.T, body object, thing string) reply {
	t.Helper()
	made := f.send(t, http.MethodPost, "/things", body).is(http.StatusCreated).has(map[string]any{
		"resourceArns.thing": like(`^arn:aws:iot:.*thing/` + thing + `$`), "resourceArns.certificate": like(`^arn:aws:iot:`),
	})
	f.get(t, "/things/"+thing).is(http.StatusOK).has(map[string]any{
		"thingName": thing, "certificates.#": 1, "certificates.0.certificateStatus": "ACTIVE",
		"certificates.0.arn": made.text("resourceArns.certificate"), "certificates.0.certificatePem": like("BEGIN CERTIFICATE"),
		"policies.0.policyName": "CDFGreengrass2CorePolicy",
	})
	return made
}

// provisionPrivate makes a thing with a certificate of a private CA, for a CSR, and
// returns the id of the certificate that signed it.
func (f provisioning) provisionPrivate(t *testing.T, template string, cas object) string {
	t.Helper()
	request, key := csr(t)
	cas["certInfo"], cas["csr"] = object{"country": "DE"}, request
	made := f.provision(t, object{
		"provisioningTemplateId": template, "parameters": object{"ThingName": itPCAThing}, "cdfProvisioningParameters": cas,
	}, itPCAThing).lacks("privateKey")
	leaf := certificate(t, made.text("certificatePem"))
	assert.Equal(t, key.Public(), leaf.PublicKey)
	assert.Equal(t, []string{"DE"}, leaf.Subject.Country)
	_, chain := pem.Decode([]byte(made.text("certificatePem")))
	issuer := certificate(t, string(chain))
	require.NoError(t, leaf.CheckSignatureFrom(issuer), "the answer has the chain")
	id := sha256.Sum256(issuer.Raw)
	return hex.EncodeToString(id[:])
}

func certificate(t *testing.T, text string) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode([]byte(text))
	require.NotNil(t, block, "%s", text)
	c, err := x509.ParseCertificate(block.Bytes)
	require.NoError(t, err)
	return c
}
