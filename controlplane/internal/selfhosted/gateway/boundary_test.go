package gateway_test

import (
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// claim is a device without thing whose own policy allows all and whose boundary
// allows to connect and to publish below plant.
func (w *world) claim() *device {
	d := w.device("", anyPolicy)
	d.identity.Boundary = docs(w.t, `{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Action":"iot:Connect","Resource":"*"},
		{"Effect":"Allow","Action":"iot:Publish","Resource":"arn:aws:iot:us-east-1:123456789012:topic/plant/*"}]}`)[0]
	w.registry.change(d.id, d.identity, nil)
	return d
}

func TestABoundaryIsTheMostThatPoliciesAllow(t *testing.T) {
	w := newWorld(t, nil)
	d := w.claim()
	c := d.connect("any id at all")
	assert.Equal(t, byte(0), c.acked("plant/a", "x"))
	assert.Equal(t, packets.ErrNotAuthorized.Code, c.acked("secret", "x"))

	d.identity.Policies = docs(t, `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"iot:Connect","Resource":"*"}}`)
	w.registry.change(d.id, d.identity, nil)
	c.silent()
	require.Eventually(t, func() bool { return c.acked("plant/a", "x") == packets.ErrNotAuthorized.Code }, patience, time.Millisecond, "a boundary gives nothing")
}

func TestWhoHasNoThingTakesNoClientIDFromAThing(t *testing.T) {
	w := newWorld(t, nil)
	claim, core := w.claim(), w.device("press-07")
	c := core.connect("press-07")
	_, ack := claim.connectWith(5, "press-07", nil)
	assert.Equal(t, packets.ErrClientIdentifierNotValid.Code, ack.ReasonCode)
	c.silent()

	c, ack = core.connectWith(5, "press-07#2", func(pk *packets.Packet) {
		pk.Properties.SessionExpiryInterval, pk.Properties.SessionExpiryIntervalFlag = 600, true
	})
	require.Zero(t, ack.ReasonCode)
	require.Equal(t, "connected press-07#2", w.event())
	_ = c.conn.Close()
	require.Equal(t, "disconnected press-07#2 CONNECTION_LOST", w.event())
	_, ack = claim.connectWith(5, "press-07#2", nil)
	assert.Equal(t, packets.ErrClientIdentifierNotValid.Code, ack.ReasonCode, "what is kept for a thing is not thrown away for it")

	first := claim.connect("press-08")
	second, ack := w.claim().connectWith(5, "press-08", nil)
	assert.Equal(t, byte(0), ack.ReasonCode, "from another without thing it does")
	first.ended(packets.ErrSessionTakenOver.Code)
	second.silent()
}
