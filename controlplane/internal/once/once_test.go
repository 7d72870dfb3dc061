package once_test

import (
	"crypto/sha256"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/once"
	"github.com/ggfleet/ggfleet/controlplane/internal/seal"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/controlplane/internal/state/memory"
	"github.com/ggfleet/ggfleet/shared/fault"
)

type kit struct {
	*once.Store
	records state.Store
	now     time.Time
}

func start(t *testing.T) *kit {
	t.Helper()
	k := &kit{records: memory.New(), now: time.Date(2026, 3, 2, 8, 0, 0, 0, time.UTC)}
	sealer, err := seal.New(make([]byte, seal.KeySize))
	require.NoError(t, err)
	k.Store, err = once.New(once.Config{Store: k.records, Sealer: sealer, Now: func() time.Time { return k.now }})
	require.NoError(t, err)
	return k
}

func (k *kit) stored(t *testing.T) []state.Entry {
	t.Helper()
	p, err := k.records.List(t.Context(), state.Root+"once/", "", 0)
	require.NoError(t, err)
	return p.Entries
}

func request(change ...func(*once.Request)) once.Request {
	r := once.Request{Principal: "ada", Key: "order-1", Method: "POST", Path: "/things", Body: sha256.Sum256([]byte("body"))}
	for _, c := range change {
		c(&r)
	}
	return r
}

func TestAnAnswerIsGivenAgain(t *testing.T) {
	k := start(t)
	before, ticket, err := k.Begin(t.Context(), request())
	require.NoError(t, err)
	require.Nil(t, before)
	want := once.Answer{Status: 201, Header: map[string]string{"Location": "/things/a"}, Body: []byte(`{"privateKey":"very secret"}`)}
	require.NoError(t, k.Finish(t.Context(), ticket, want))

	k.now = k.now.Add(24*time.Hour - time.Second)
	before, ticket, err = k.Begin(t.Context(), request())
	require.NoError(t, err)
	assert.Nil(t, ticket)
	assert.Equal(t, &want, before)

	k.now = k.now.Add(time.Second)
	before, ticket, err = k.Begin(t.Context(), request())
	require.NoError(t, err)
	assert.Nil(t, before, "a day is over")
	assert.NotNil(t, ticket)
}

func TestNothingOfARequestOrItsAnswerCanBeReadInTheStore(t *testing.T) {
	k := start(t)
	_, ticket, err := k.Begin(t.Context(), request())
	require.NoError(t, err)
	require.NoError(t, k.Finish(t.Context(), ticket, once.Answer{Status: 201, Body: []byte("PRIVATE KEY")}))
	for _, e := range k.stored(t) {
		for _, secret := range []string{"PRIVATE", "UFJJVkFURSBLRVk", "order-1", "ada", "/things"} {
			assert.NotContains(t, e.Key+string(e.Value), secret)
		}
	}
}

func TestAKeyIsForOneRequest(t *testing.T) {
	k := start(t)
	_, ticket, err := k.Begin(t.Context(), request())
	require.NoError(t, err)
	require.NoError(t, k.Finish(t.Context(), ticket, once.Answer{Status: 202}))
	for name, change := range map[string]func(*once.Request){
		"another body":   func(r *once.Request) { r.Body = sha256.Sum256([]byte("other")) },
		"another path":   func(r *once.Request) { r.Path = "/coreTasks" },
		"another method": func(r *once.Request) { r.Method = "PUT" },
	} {
		_, _, err := k.Begin(t.Context(), request(change))
		assert.ErrorIs(t, err, fault.Invalid, name)
		assert.Equal(t, "Idempotency-Key", fault.FieldOf(err), name)
	}
	for name, change := range map[string]func(*once.Request){
		"another principal": func(r *once.Request) { r.Principal = "otto" },
		"another key":       func(r *once.Request) { r.Key = "order-2" },
	} {
		before, ticket, err := k.Begin(t.Context(), request(change))
		require.NoError(t, err, name)
		assert.Nil(t, before, name)
		assert.NotNil(t, ticket, name)
	}
}

func TestARequestInProgressKeepsOthersAwayForAMinute(t *testing.T) {
	k := start(t)
	_, first, err := k.Begin(t.Context(), request())
	require.NoError(t, err)
	k.now = k.now.Add(59 * time.Second)
	_, _, err = k.Begin(t.Context(), request())
	assert.ErrorIs(t, err, fault.Conflict)

	// The process that began died, or so it seems.
	k.now = k.now.Add(time.Second)
	_, second, err := k.Begin(t.Context(), request())
	require.NoError(t, err)
	require.NoError(t, k.Finish(t.Context(), second, once.Answer{Status: 202, Header: map[string]string{"X-Taskid": "second"}}))
	require.NoError(t, k.Finish(t.Context(), first, once.Answer{Status: 202, Header: map[string]string{"X-Taskid": "first"}}), "it lost, which is no error")
	require.NoError(t, k.Forget(t.Context(), first))
	before, _, err := k.Begin(t.Context(), request())
	require.NoError(t, err)
	assert.Equal(t, "second", before.Header["X-Taskid"])
}

func TestWhoIsAloneDoesNotWaitForTheProcessBefore(t *testing.T) {
	k := start(t)
	_, _, err := k.Begin(t.Context(), request())
	require.NoError(t, err)

	k.now = k.now.Add(time.Second)
	sealer, err := seal.New(make([]byte, seal.KeySize))
	require.NoError(t, err)
	next, err := once.New(once.Config{Store: k.records, Sealer: sealer, Alone: true, Now: func() time.Time { return k.now }})
	require.NoError(t, err)
	before, ticket, err := next.Begin(t.Context(), request())
	require.NoError(t, err)
	assert.Nil(t, before)
	assert.NotNil(t, ticket)
	_, _, err = next.Begin(t.Context(), request())
	require.ErrorIs(t, err, fault.Conflict, "its own intent keeps others away")
}

func TestWhatIsForgottenOrTooLargeIsCarriedOutAgain(t *testing.T) {
	k := start(t)
	_, ticket, err := k.Begin(t.Context(), request())
	require.NoError(t, err)
	require.NoError(t, k.Forget(t.Context(), ticket))
	_, ticket, err = k.Begin(t.Context(), request())
	require.NoError(t, err)
	require.NoError(t, k.Finish(t.Context(), ticket, once.Answer{Status: 200, Body: []byte(strings.Repeat("x", once.MaxBody+1))}))
	before, _, err := k.Begin(t.Context(), request())
	require.NoError(t, err)
	assert.Nil(t, before)
	assert.Len(t, k.stored(t), 1, "only the new intent")
}

func TestOldRecordsAreSwept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := start(t)
		for i := range 300 {
			_, ticket, err := k.Begin(t.Context(), request(func(r *once.Request) { r.Key = strings.Repeat("k", i+1) }))
			require.NoError(t, err)
			require.NoError(t, k.Finish(t.Context(), ticket, once.Answer{Status: 204}))
		}
		k.now = k.now.Add(24 * time.Hour)
		_, _, err := k.Begin(t.Context(), request())
		require.NoError(t, err)
		go func() { _ = k.Run(t.Context()) }()
		time.Sleep(11 * time.Minute)
		synctest.Wait()
		assert.Len(t, k.stored(t), 1, "the one that is in progress")
	})
}
