// Package identity keeps who the agent is: what enrolment gave it, which key is
// its own, what time it is by the control plane's clock, and how TLS proves all
// that. It also makes and checks the keys, CSRs and certificates of the core
// device. It opens no connections.
package identity

import (
	"net"
	"net/url"

	"github.com/ggfleet/ggfleet/agent/internal/localstate"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

const (
	recordName = "identity.json"
	firstKey   = "key" // the name of the agent's first key
)

// Credential is a certificate and the name of its key in the keystore.
type Credential struct {
	KeyName        string `json:"keyName,omitempty"`        // "": firstKey
	CertificatePEM string `json:"certificatePem,omitempty"` // "": not issued yet
}

// Key is the name of the key in the keystore.
func (c Credential) Key() string {
	if c.KeyName == "" {
		return firstKey
	}
	return c.KeyName
}

// Identity is what enrolment gave the agent, and how far a renewal is. It is one
// record, so the agent has all of it or nothing.
type Identity struct {
	URL           string `json:"url"`
	CAFingerprint string `json:"caFingerprint"`
	ActivationID  string `json:"activationId,omitempty"`
	AgentThing    string `json:"agentThing"`
	Core          string `json:"core,omitempty"`   // the subject when it is a core
	Device        string `json:"device,omitempty"` // the subject when it is a client device
	Keys          string `json:"keys,omitempty"`   // where the keys are (package keystore); "": files
	Credential
	CAPEM       string `json:"caPem"`
	MQTTAddress string `json:"mqttAddress"`

	Next *Credential `json:"next,omitempty"` // becomes the credential once it has proved itself
	Old  *Credential `json:"old,omitempty"`  // was it, until the control plane has ended it
}

// Subject is the device that the agent looks after.
func (i Identity) Subject() protocol.Subject {
	if i.Device != "" {
		return protocol.Subject{Role: protocol.RoleClient, Name: i.Device}
	}
	return protocol.Subject{Role: protocol.RoleCore, Name: i.Core}
}

// check reports what is wrong with i, but for the credential. The kind is
// fault.Invalid.
func (i Identity) check() error {
	if err := names.CheckThing(i.Subject().Name); err != nil {
		return fault.Field("core", "%v", err)
	}
	if err := names.CheckThing(i.AgentThing); err != nil {
		return fault.Field("agentThing", "%v", err)
	}
	if u, err := url.Parse(i.URL); err != nil || u.Scheme != "https" || u.Hostname() == "" {
		return fault.Field("url", "%q is not an address such as https://fleet.example:8443", i.URL)
	}
	if host, port, err := net.SplitHostPort(i.MQTTAddress); err != nil || host == "" || port == "" {
		return fault.Field("mqttAddress", "%q is not host:port", i.MQTTAddress)
	}
	_, err := Bundle(i.CAPEM, i.CAFingerprint)
	return err
}

// Read returns the stored record, unchecked. fs.ErrNotExist: not enrolled.
func Read(d *localstate.Dir) (i Identity, err error) {
	return i, d.ReadJSON(recordName, &i)
}
