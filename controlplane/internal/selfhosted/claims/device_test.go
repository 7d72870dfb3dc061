package claims_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/claims"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/iot"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/policy"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/pki"
)

const (
	create  = "$aws/certificates/create/json"
	fromCSR = "$aws/certificates/create-from-csr/json"
	toFleet = "$aws/provisioning-templates/fleet/provision/json"
)

// ask sends a request and returns the answer that its topic says it is.
func (k *kit) ask(topic string, payload any) (accepted bool, answer map[string]any) {
	k.t.Helper()
	b, err := json.Marshal(payload)
	require.NoError(k.t, err)
	a, err := k.Serve(k.t.Context(), k.claim, topic, b)
	require.NoError(k.t, err)
	require.NoError(k.t, json.Unmarshal(a.Payload, &answer))
	accepted = a.Topic == topic+"/accepted"
	if !accepted {
		require.Equal(k.t, topic+"/rejected", a.Topic)
	}
	return accepted, answer
}

func (k *kit) accepted(topic string, payload any) map[string]any {
	k.t.Helper()
	ok, answer := k.ask(topic, payload)
	require.True(k.t, ok, "%v", answer)
	return answer
}

func (k *kit) rejected(topic string, payload any) (status int, code string) {
	k.t.Helper()
	ok, answer := k.ask(topic, payload)
	require.False(k.t, ok, "%v", answer)
	assert.NotEmpty(k.t, answer["errorMessage"])
	return int(answer["statusCode"].(float64)), answer["errorCode"].(string)
}

func csr(t *testing.T) string {
	t.Helper()
	key, err := pki.NewKey(pki.P256)
	require.NoError(t, err)
	b, err := pki.NewCSR(key, "device")
	require.NoError(t, err)
	return string(b)
}

func TestAClaimIsTradedForACertificate(t *testing.T) {
	k := newKit(t)
	k.template("fleet")
	for name, request := range map[string]func() map[string]any{
		"with a key of the server's": func() map[string]any { return k.accepted(create, map[string]any{}) },
		"with a CSR": func() map[string]any {
			return k.accepted(fromCSR, map[string]string{"certificateSigningRequest": csr(t)})
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := request()
			id := got["certificateId"].(string)
			assert.Equal(t, id, pki.ID(k.leaf(got["certificatePem"].(string)).Raw))
			assert.LessOrEqual(t, len(got["certificateOwnershipToken"].(string)), 512, "lite takes no longer one")
			c, err := k.world.Registry.Certificate(t.Context(), id)
			require.NoError(t, err)
			assert.Equal(t, iot.PendingActivation, c.Value.Status)

			k.got = nil
			request := map[string]any{"certificateOwnershipToken": got["certificateOwnershipToken"], "parameters": map[string]string{"SerialNumber": "A17", "AWS::IoT::Certificate::Id": "mine"}}
			answer := k.accepted(toFleet, request)
			assert.Equal(t, map[string]any{"thingName": "thing-1", "deviceConfiguration": map[string]any{}}, answer)
			require.Len(t, k.got, 1)
			assert.Equal(t, map[string]string{"p1": "A17"}, k.got[0].parameters)
			assert.Equal(t, answer, k.accepted(toFleet, request), "one that did not hear the answer asks again")
			require.Len(t, k.got, 1, "and nothing is made twice")
			request["parameters"] = map[string]string{"SerialNumber": "A18"}
			status, code := k.rejected(toFleet, request)
			assert.Equal(t, 403, status)
			assert.Equal(t, "InvalidCertificateOwnershipToken", code, "a token is for one thing")
		})
	}
}

func TestWhatAClaimIsRefused(t *testing.T) {
	k := newKit(t)
	k.template("fleet")
	_, err := k.CreateTemplate(t.Context(), claims.NewTemplate{Name: "off", Body: simple})
	require.NoError(t, err)
	_, err = k.CreateTemplate(t.Context(), claims.NewTemplate{Name: "jitp", Body: simple, Enabled: true, Kind: claims.JustInTime})
	require.NoError(t, err)
	token := k.accepted(create, nil)["certificateOwnershipToken"]
	provision := func(template string) string { return strings.Replace(toFleet, "fleet", template, 1) }
	for name, tt := range map[string]struct {
		topic   string
		payload any
		status  int
		code    string
	}{
		"a payload that is a list":     {create, []int{1}, 400, "InvalidPayload"},
		"a payload that is too long":   {create, strings.Repeat("x", 1<<17), 400, "InvalidRequest"},
		"no CSR":                       {fromCSR, map[string]string{}, 400, "InvalidCertificateSigningRequest"},
		"a CSR that is none":           {fromCSR, map[string]string{"certificateSigningRequest": "x"}, 400, "InvalidCertificateSigningRequest"},
		"an unknown template":          {provision("none"), map[string]any{"certificateOwnershipToken": token}, 404, "ResourceNotFound"},
		"a template that is off":       {provision("off"), map[string]any{"certificateOwnershipToken": token}, 403, "AccessDenied"},
		"a template of another kind":   {provision("jitp"), map[string]any{"certificateOwnershipToken": token}, 403, "AccessDenied"},
		"no token":                     {toFleet, map[string]any{}, 403, "InvalidCertificateOwnershipToken"},
		"an unknown token":             {toFleet, map[string]any{"certificateOwnershipToken": "x"}, 403, "InvalidCertificateOwnershipToken"},
		"a parameter that is missing":  {toFleet, map[string]any{"certificateOwnershipToken": token}, 400, "InvalidRequest"},
		"a parameter that is a number": {toFleet, map[string]any{"parameters": map[string]int{"SerialNumber": 1}}, 400, "InvalidPayload"},
	} {
		t.Run(name, func(t *testing.T) {
			status, code := k.rejected(tt.topic, tt.payload)
			assert.Equal(t, tt.status, status)
			assert.Equal(t, tt.code, code)
		})
	}
	for _, topic := range []string{"$aws/certificates/create/cbor", "$aws/certificates", "$aws/provisioning-templates//provision/json", "$aws/provisioning-templates/a/b/provision/json", "$aws/provisioning-templates/fleet/provision/json/accepted"} {
		_, err := k.Serve(t.Context(), k.claim, topic, nil)
		require.ErrorIs(t, err, fault.NotFound, topic)
	}
	k.refuse = &claims.RefusedError{Err: fault.New(fault.Exists, "thing exists")}
	given := map[string]any{"certificateOwnershipToken": token, "parameters": map[string]string{"SerialNumber": "A"}}
	_, code := k.rejected(toFleet, given)
	assert.Equal(t, "InvalidRequest", code)
	k.refuse = errors.New("the store is away")
	_, err = k.Serve(t.Context(), k.claim, toFleet, fmt.Appendf(nil, `{"certificateOwnershipToken":%q,"parameters":{"SerialNumber":"A"}}`, token))
	require.ErrorIs(t, err, k.refuse, "the device asks again")
	k.refuse = nil
	k.accepted(toFleet, given)
}

func TestATokenIsOfTheClaimThatAskedForIt(t *testing.T) {
	k := newKit(t)
	k.template("fleet")
	token := k.accepted(create, nil)["certificateOwnershipToken"]
	a, err := k.Serve(t.Context(), k.holder(), toFleet, fmt.Appendf(nil, `{"certificateOwnershipToken":%q,"parameters":{"SerialNumber":"A"}}`, token))
	require.NoError(t, err)
	assert.Equal(t, toFleet+"/rejected", a.Topic)
	assert.Contains(t, string(a.Payload), "InvalidCertificateOwnershipToken")
}

func TestAClaimForOneTemplateProvisionsWithNoOther(t *testing.T) {
	k := newKit(t)
	k.template("fleet")
	k.template("other")
	c, err := k.CreateClaim(t.Context(), "other")
	require.NoError(t, err)
	a, err := k.Serve(t.Context(), c.ID, toFleet, []byte(`{}`))
	require.NoError(t, err)
	assert.Contains(t, string(a.Payload), "AccessDenied")
}

// A session may be older than the end of its claim.
func TestWhatIsNoClaimAnyMoreClaimsNothing(t *testing.T) {
	k := newKit(t)
	k.template("fleet")
	k.template("other")
	own, err := k.CreateClaim(t.Context(), "other")
	require.NoError(t, err)
	attached, inactive := k.holder(), k.holder()
	_, err = k.world.Registry.CreateThing(t.Context(), iot.NewThing{Name: "gw"})
	require.NoError(t, err)
	require.NoError(t, k.world.Registry.AttachPrincipal(t.Context(), "gw", attached, nil))
	require.NoError(t, k.world.Registry.SetCertificateStatus(t.Context(), inactive, cloud.Inactive))
	refused := func(name, claim string) {
		for _, topic := range []string{create, fromCSR, toFleet} {
			a, err := k.Serve(t.Context(), claim, topic, []byte(`{}`))
			require.NoError(t, err)
			assert.Contains(t, string(a.Payload), "AccessDenied", "%s: %s", name, topic)
		}
	}
	refused("one that got a thing", attached)
	refused("one that is INACTIVE", inactive)
	refused("one that never was", strings.Repeat("a", 64))
	k.now = own.Until.Add(time.Second)
	refused("one that ran out", own.ID)
	require.NoError(t, k.Sweep(t.Context()))
	refused("one that ran out and is forgotten", own.ID)
}

// Of a certificate that an operator took out of use nobody makes an ACTIVE one.
func TestACertificateThatWasTakenOutOfUseIsNotProvisioned(t *testing.T) {
	k := newKit(t)
	k.template("fleet")
	for _, status := range []cloud.CertificateStatus{cloud.Revoked, cloud.Inactive} {
		got := k.accepted(create, nil)
		require.NoError(t, k.world.Registry.SetCertificateStatus(t.Context(), got["certificateId"].(string), status))
		_, code := k.rejected(toFleet, map[string]any{"certificateOwnershipToken": got["certificateOwnershipToken"], "parameters": map[string]string{"SerialNumber": "A"}})
		assert.Equal(t, "InvalidCertificateOwnershipToken", code)
	}
	assert.Len(t, k.got, 1, "only the template was looked at")
}

// A device names its own certificate; any other that it names keeps its status.
func TestOnlyTheCertificateBeingProvisionedIsActivated(t *testing.T) {
	k := newKit(t)
	for ref, want := range map[string]any{"AWS::IoT::Certificate::Id": map[string]any{"Status": "REPLACE"}, "SerialNumber": nil} {
		body := strings.Replace(simple, `"Resources":{`, `"Resources":{"c":{"Type":"AWS::IoT::Certificate","Properties":{"CertificateId":{"Ref":"`+ref+`"}}},`, 1)
		k.got = nil
		_, err := k.CreateTemplate(t.Context(), claims.NewTemplate{Name: "t" + strings.ReplaceAll(ref, ":", ""), Body: body, Enabled: true})
		require.NoError(t, err)
		assert.Equal(t, want, k.got[0].body["Resources"].(map[string]any)["c"].(map[string]any)["OverrideSettings"], ref)
	}
}

func TestWhatIsNotTakenUpIsForgotten(t *testing.T) {
	k := newKit(t)
	k.template("fleet")
	unused, used, left := k.accepted(create, nil), k.accepted(create, nil), k.accepted(create, nil)
	given := map[string]any{"certificateOwnershipToken": used["certificateOwnershipToken"], "parameters": map[string]string{"SerialNumber": "A"}}
	k.accepted(toFleet, given)
	k.accepted(toFleet, map[string]any{"certificateOwnershipToken": left["certificateOwnershipToken"], "parameters": map[string]string{"SerialNumber": "B"}})
	require.NoError(t, k.Sweep(t.Context()))
	for _, c := range []map[string]any{unused, used} {
		_, err := k.world.Registry.Certificate(t.Context(), c["certificateId"].(string))
		require.NoError(t, err, "nothing is over yet")
	}
	require.NoError(t, k.world.Registry.SetCertificateStatus(t.Context(), used["certificateId"].(string), cloud.Active)) // as the registrar does

	k.now = k.now.Add(claims.TokenLife + time.Second)
	given["certificateOwnershipToken"] = unused["certificateOwnershipToken"]
	_, code := k.rejected(toFleet, given)
	assert.Equal(t, "InvalidCertificateOwnershipToken", code)
	require.NoError(t, k.Sweep(t.Context()))
	_, err := k.world.Registry.Certificate(t.Context(), unused["certificateId"].(string))
	require.ErrorIs(t, err, fault.NotFound)
	_, err = k.world.Registry.Certificate(t.Context(), left["certificateId"].(string))
	require.ErrorIs(t, err, fault.NotFound, "its template has no certificate, so nobody activated it")
	_, err = k.world.Registry.Certificate(t.Context(), used["certificateId"].(string))
	require.NoError(t, err)
	for _, kind := range []string{"token/", "done/"} {
		left, err := k.world.Store.List(t.Context(), "/ggfleet/v1/claims/"+kind, "", 0)
		require.NoError(t, err)
		assert.Empty(t, left.Entries)
	}
}

func TestACertificateWithoutThingIsAClaimAtMost(t *testing.T) {
	k := newKit(t)
	issued, err := k.world.Registry.IssueCSR(csr(t))
	require.NoError(t, err)
	leaf := k.leaf(issued.PEM)
	_, err = k.Identify(t.Context(), leaf)
	require.ErrorIs(t, err, fault.Denied, "one that is not registered")
	_, err = k.world.Registry.AddCertificate(t.Context(), issued, cloud.Inactive)
	require.NoError(t, err)
	_, err = k.Identify(t.Context(), leaf)
	require.ErrorIs(t, err, fault.Denied, "one that is INACTIVE")
	require.NoError(t, k.world.Registry.SetCertificateStatus(t.Context(), issued.ID, cloud.Active))
	id, err := k.Identify(t.Context(), leaf)
	require.NoError(t, err)
	assert.Empty(t, id.Policies, "it may do what its own policies say")

	realm := k.world.Realm
	for _, tt := range []struct {
		action, resource string
		want             bool
	}{
		{"iot:Connect", realm.Client("a UUID"), true},
		{"iot:Publish", realm.Topic(create), true},
		{"iot:Publish", realm.Topic(fromCSR), true},
		{"iot:Publish", realm.Topic(toFleet), true},
		{"iot:Receive", realm.Topic(toFleet + "/accepted"), true},
		{"iot:Subscribe", realm.TopicFilter(toFleet + "/+"), true},
		{"iot:Publish", realm.Topic("dt/plain"), false},
		{"iot:Publish", realm.Topic("$aws/things/x/jobs/$next/get"), false},
		{"iot:Subscribe", realm.TopicFilter("#"), false},
		{"iot:RetainPublish", realm.Topic(create), false},
		{"iot:AssumeRoleWithCertificate", realm.RoleAlias("r"), false},
	} {
		assert.Equal(t, tt.want, policy.Decide([]*policy.Document{k.Boundary()}, policy.Request{Action: tt.action, Resource: tt.resource}), "%s %s", tt.action, tt.resource)
	}
}
