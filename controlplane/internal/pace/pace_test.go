package pace_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/pace"
	"github.com/ggfleet/ggfleet/shared/fault"
)

func TestEachCallerHasARateOfItsOwn(t *testing.T) {
	r := pace.NewRate[string](2, 3, 100)
	now := time.Now()
	for range 3 {
		assert.True(t, r.Allow("a", now))
	}
	assert.False(t, r.Allow("a", now))
	assert.True(t, r.Allow("b", now))
	now = now.Add(500 * time.Millisecond)
	assert.True(t, r.Allow("a", now))
	assert.False(t, r.Allow("a", now))
}

func TestManyCallersGiveNobodyWhoGoesOnANewBudget(t *testing.T) {
	const keep = 50
	r := pace.NewRate[int](1, 10, keep)
	now := time.Now()
	let, next := 0, 1
	for range 40 { // 0 goes on; between its acts come as many others as are remembered, less one
		if r.Allow(0, now) {
			let++
		}
		for range keep - 1 {
			assert.True(t, r.Allow(next, now))
			next++
		}
	}
	assert.Equal(t, 10, let)
}

func TestAnIPv6NetworkIsOneCaller(t *testing.T) {
	of := func(s string) netip.Prefix { return pace.Network(netip.MustParseAddr(s)) }
	assert.Equal(t, of("2001:db8::1"), of("2001:db8::ffff:ffff:ffff:ffff"))
	assert.Equal(t, of("fe80::1%eth0"), of("fe80::2%eth1"))
	assert.NotEqual(t, of("2001:db8::1"), of("2001:db8:0:1::1"))
	assert.Equal(t, of("10.0.0.1"), of("::ffff:10.0.0.1"))
	assert.NotEqual(t, of("10.0.0.1"), of("10.0.0.2"))
	assert.Zero(t, pace.Network(netip.Addr{}))
}

func TestOneCallerDoesNotTakeAllPlaces(t *testing.T) {
	p := pace.NewPlaces[string]("downloads", 5, 2)
	take := func(k string) func() {
		t.Helper()
		leave, err := p.Take(k)
		require.NoError(t, err)
		return leave
	}
	leave := take("a")
	take("a")
	_, err := p.Take("a")
	require.ErrorIs(t, err, fault.Exhausted)
	require.ErrorContains(t, err, "too many downloads")
	take("b")
	take("b")
	take("c")
	_, err = p.Take("d")
	require.ErrorIs(t, err, fault.Unavailable)
	leave()
	leave()
	take("d")
	_, err = p.Take("a")
	require.ErrorIs(t, err, fault.Unavailable)
}
