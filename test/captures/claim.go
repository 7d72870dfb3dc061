package captures

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/ggfleet/ggfleet/test/simulator/mqttwire"
)

// What the topics of provisioning by claim begin with.
const (
	claimCertificates = "$aws/certificates/"
	claimTemplates    = "$aws/provisioning-templates/"
)

func ofClaim(topic string) bool {
	return strings.HasPrefix(topic, claimCertificates) || strings.HasPrefix(topic, claimTemplates)
}

// Provisioned is what a capture or a replay of provisioning by claim ended with.
type Provisioned struct {
	Thing          string `json:"thingName"`
	CertificateID  string `json:"certificateId"`
	CertificatePEM string `json:"certificatePem"`
	Token          string `json:"certificateOwnershipToken"`
}

// SplitClaim divides a capture of provisioning by claim: what the claim did, what
// came of it, and what the device then did with its own certificate. What another
// core sent meanwhile is left out.
func SplitClaim(s Script) (claim, device Script, made Provisioned) {
	for _, e := range s.Entries {
		if e.Packet != nil && !e.Core && ofClaim(e.Packet.Topic) {
			_ = json.Unmarshal(e.Packet.Payload, &made) // each answer holds a part
		}
	}
	connect := func(match func(Packet) bool) int {
		return slices.IndexFunc(s.Entries, func(e Entry) bool { return e.Packet != nil && e.Packet.Type == "CONNECT" && match(*e.Packet) })
	}
	begin := connect(func(p Packet) bool { return !strings.HasPrefix(p.ClientID, "heldout-") })
	end := connect(func(p Packet) bool { return p.ClientID == made.Thing })
	if begin < 0 || end < begin {
		return Script{}, Script{}, made
	}
	claim = Script{Name: s.Name + " as the claim", Entries: s.Entries[begin:end]}
	device = Script{Name: s.Name + " as the device"}
	for _, e := range s.Entries[end:] {
		if e.Packet == nil || !strings.Contains(e.Packet.Topic, CapturedThing) {
			device.Entries = append(device.Entries, e)
		}
	}
	return claim, device, made
}

// ask puts the device's own CSR in the place of the captured one.
func (r *replayer) ask(p *mqttwire.Packet) {
	if p.Topic != claimCertificates+"create-from-csr/json" {
		return
	}
	p.Payload, _ = json.Marshal(map[string]string{"certificateSigningRequest": r.t.CSR}) //nolint:errchkjson // text always encodes
}

// given learns what the target gave where the capture has what its cloud gave, and
// checks that the answer has the same members.
func (r *replayer) given(captured []byte, p mqttwire.Packet) {
	if p.Size > maxPacket {
		r.violate("packet of %d bytes is over the announced maximum (trap 5)", p.Size)
	}
	var want, got map[string]any
	if json.Unmarshal(captured, &want) != nil || json.Unmarshal(p.Payload, &got) != nil {
		r.violate("answer on %s is %s", p.Topic, short(p.Payload))
		return
	}
	if w, g := slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(got)); !slices.Equal(w, g) {
		r.violate("answer on %s has the members %v, want %v", p.Topic, g, w)
	}
	if n, ok := got["certificateOwnershipToken"].(string); ok && len(n) > 512 {
		r.violate("the token has %d bytes, lite takes 512", len(n))
	}
	var before Provisioned
	_ = json.Unmarshal(captured, &before) // it was read above
	_ = json.Unmarshal(p.Payload, &r.res.Provisioned)
	r.learn(before.Token, r.res.Provisioned.Token)
}
