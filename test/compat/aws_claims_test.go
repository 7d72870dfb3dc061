package compat_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/greengrassv2"
	gg "github.com/aws/aws-sdk-go-v2/service/greengrassv2/types"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/shared/pki"
	"github.com/ggfleet/ggfleet/test/captures"
	"github.com/ggfleet/ggfleet/test/internal/world"
	"github.com/ggfleet/ggfleet/test/simulator/mqttwire"
)

// heldoutTemplate provisions as the cloud of capture 16 did.
const heldoutTemplate = `{"Parameters":{"SerialNumber":{"Type":"String"},"AWS::IoT::Certificate::Id":{"Type":"String"}},
"Resources":{"thing":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":{"Fn::Join":["",["heldout-fleet-",{"Ref":"SerialNumber"}]]}}},
"certificate":{"Type":"AWS::IoT::Certificate","Properties":{"CertificateId":{"Ref":"AWS::IoT::Certificate::Id"},"Status":"ACTIVE"}},
"policy":{"Type":"AWS::IoT::Policy","Properties":{"PolicyName":"CDFGreengrass2CorePolicy"}}}}`

const claimPolicy = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:*","Resource":"*"}]}`

// claims are the ways to a claim certificate.
func (p provisioning) claims(t *testing.T) map[string]tls.Certificate {
	t.Helper()
	ctx := t.Context()
	_, err := p.iot.CreatePolicy(ctx, &iot.CreatePolicyInput{PolicyName: aws.String("claims"), PolicyDocument: aws.String(claimPolicy)})
	require.NoError(t, err)
	made, err := p.iot.CreateKeysAndCertificate(ctx, &iot.CreateKeysAndCertificateInput{SetAsActive: true})
	require.NoError(t, err)
	_, err = p.iot.AttachPolicy(ctx, &iot.AttachPolicyInput{PolicyName: aws.String("claims"), Target: made.CertificateArn})
	require.NoError(t, err)
	forFive, err := p.iot.CreateProvisioningClaim(ctx, &iot.CreateProvisioningClaimInput{TemplateName: aws.String("HeldoutTemplate")})
	require.NoError(t, err)
	out := map[string]tls.Certificate{}
	for name, pair := range map[string][2]*string{
		"a certificate of the registry": {made.CertificatePem, made.KeyPair.PrivateKey}, "a claim for five minutes": {forFive.CertificatePem, forFive.KeyPair.PrivateKey},
	} {
		out[name], err = tls.X509KeyPair([]byte(*pair[0]), []byte(*pair[1]))
		require.NoError(t, err)
	}
	return out
}

// TestARecordedDeviceIsProvisionedByClaim plays capture 16: the claim that lite
// trades, then the device with what it got.
func TestARecordedDeviceIsProvisionedByClaim(t *testing.T) {
	k := awsKit(t)
	p := provisioning{k, k.IoT(), k.Greengrass()}
	_, err := p.iot.CreateProvisioningTemplate(t.Context(), &iot.CreateProvisioningTemplateInput{
		TemplateName: aws.String("HeldoutTemplate"), TemplateBody: aws.String(heldoutTemplate), ProvisioningRoleArn: aws.String(roleARN), Enabled: aws.Bool(true),
	})
	require.NoError(t, err)
	all, err := captures.Load()
	require.NoError(t, err)
	certificates := p.claims(t)
	asClaim, asDevice, recorded := captures.SplitClaim(all[len(all)-1])
	require.NotEmpty(t, asDevice.Entries)
	for name, certificate := range certificates {
		t.Run(name, func(t *testing.T) {
			thing := "heldout-fleet-" + strings.ReplaceAll(name, " ", "-")
			key, err := pki.NewKey(pki.P256)
			require.NoError(t, err)
			csr, err := pki.NewCSR(key, "aws-greengrass-nucleus-lite")
			require.NoError(t, err)
			target := captures.Target{
				MQTT: k.MQTT, DataPlane: k.Device, Credentials: k.Device, Thing: "unused", RoleAlias: "GGFleetTokenExchangeRoleAlias", Region: awsRegion,
				Certificate: certificate, RootCAs: k.Roots, CSR: string(csr), Driver: noDeployments{},
				Rewrite: strings.NewReplacer(recorded.Thing, thing, strings.TrimPrefix(recorded.Thing, "heldout-fleet-"), strings.TrimPrefix(thing, "heldout-fleet-")).Replace,
			}
			res, err := captures.Replay(t.Context(), asClaim, target)
			t.Log(res)
			require.NoError(t, err)
			assert.Empty(t, res.Violations)
			assert.Equal(t, res.Awaited, res.Answered)
			assert.Equal(t, thing, res.Provisioned.Thing)
			c, err := p.iot.DescribeCertificate(t.Context(), &iot.DescribeCertificateInput{CertificateId: &res.Provisioned.CertificateID})
			require.NoError(t, err)
			assert.Equal(t, types.CertificateStatusActive, c.CertificateDescription.Status)

			keyPEM, err := pki.MarshalKey(key)
			require.NoError(t, err)
			target.Certificate, err = tls.X509KeyPair([]byte(res.Provisioned.CertificatePEM), keyPEM)
			require.NoError(t, err)
			target.Thing = thing
			res, err = captures.Replay(t.Context(), asDevice, target)
			t.Log(res)
			require.NoError(t, err)
			assert.Empty(t, res.Violations)
			assert.Equal(t, res.Awaited, res.Answered)
			world.Eventually(t, func() string { // health comes with QoS 0
				core, err := p.gg.GetCoreDevice(t.Context(), &greengrassv2.GetCoreDeviceInput{CoreDeviceThingName: &thing})
				if err != nil || core.Status != gg.CoreDeviceStatusHealthy {
					return fmt.Sprint("core device ", thing, ": ", err)
				}
				return ""
			})
		})
	}
	for name, certificate := range certificates {
		t.Run(name+" is a claim at most", func(t *testing.T) { p.claimAtMost(t, certificate) })
	}
}

// noDeployments is the operator of a capture that has none.
type noDeployments struct{}

func (noDeployments) Deploy(context.Context, captures.DeploymentSpec) (string, error) {
	return "", errors.New("the capture has no deployment")
}

// claimAtMost connects with a claim; the own policy of one allows all.
func (p provisioning) claimAtMost(t *testing.T, certificate tls.Certificate) {
	conn, err := tls.Dial("tcp", p.MQTT, p.TLS(certificate))
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	in := bufio.NewReader(conn)
	ask := func(out mqttwire.Packet) mqttwire.Packet {
		b, err := mqttwire.Append(nil, out, mqttwire.V5)
		require.NoError(t, err)
		_, err = conn.Write(b)
		require.NoError(t, err)
		got, err := mqttwire.Read(in, mqttwire.V5, 1<<16)
		require.NoError(t, err)
		return got
	}
	const denied = 0x87
	assert.EqualValues(t, 0, ask(mqttwire.Packet{Type: mqttwire.Connect, ClientID: "any-id-at-all", CleanStart: true, KeepAlive: 30}).Code())
	for i, topic := range []string{"dt/plain", "$aws/things/any-id-at-all/jobs/$next/get", "$aws/certificates/create/cbor", "$aws/certificates/create/json/accepted"} {
		got := ask(mqttwire.Packet{Type: mqttwire.Publish, Topic: topic, QoS: 1, ID: uint16(i + 1), Payload: []byte("{}")})
		assert.Equal(t, mqttwire.Puback, got.Type, topic)
		assert.EqualValues(t, denied, got.Code(), topic)
	}
	for i, filter := range []string{"#", "dt/+", "$aws/things/+/jobs/#"} {
		got := ask(mqttwire.Packet{Type: mqttwire.Subscribe, ID: uint16(i + 10), Filters: []string{filter}})
		assert.Equal(t, mqttwire.Suback, got.Type, filter)
		assert.EqualValues(t, denied, got.Code(), filter)
	}
	web := &http.Client{Transport: &http.Transport{TLSClientConfig: p.TLS(certificate)}, Timeout: time.Minute}
	defer web.CloseIdleConnections()
	res, err := web.Get("https://" + p.Device + "/role-aliases/GGFleetTokenExchangeRoleAlias/credentials")
	if err == nil {
		defer func() { _ = res.Body.Close() }()
		assert.Equal(t, http.StatusForbidden, res.StatusCode)
	} // else the handshake failed, which is no less
}
