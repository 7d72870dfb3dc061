package clienttoken_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/clienttoken"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/controlplane/internal/state/memory"
	"github.com/ggfleet/ggfleet/shared/fault"
)

const effect = state.Root + "greengrass/effect"

type kit struct {
	store *memory.Store
	now   time.Time
}

func (k *kit) tokens(t *testing.T) *clienttoken.Tokens {
	t.Helper()
	out, err := clienttoken.New(clienttoken.Config{Store: k.store, Now: func() time.Time { return k.now }})
	require.NoError(t, err)
	return out
}

// create commits an effect with the answer.
func (k *kit) create(answer string) func(context.Context, clienttoken.Remember[string]) (string, error) {
	return func(ctx context.Context, remember clienttoken.Remember[string]) (string, error) {
		b := state.NewBatch(state.StepDeployment).Put(effect, answer)
		if err := remember(ctx, b, answer); err != nil {
			return "", err
		}
		_, err := k.store.Commit(ctx, b)
		return answer, err
	}
}

func request(token string) clienttoken.Request {
	return clienttoken.Request{Operation: "CreateThis", Token: token, Body: map[string]string{"a": "b"}}
}

func TestAnswersAreRepeatedForEightHours(t *testing.T) {
	k := &kit{store: memory.New(), now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	first := k.tokens(t)
	once := func(tokens *clienttoken.Tokens, r clienttoken.Request, answer string) string {
		t.Helper()
		got, err := clienttoken.Once(t.Context(), tokens, r, k.create(answer))
		require.NoError(t, err)
		return got
	}
	assert.Equal(t, "one", once(first, request("tok"), "one"))
	assert.Equal(t, "one", once(first, request("tok"), "two"))
	assert.Equal(t, "one", once(k.tokens(t), request("tok"), "two"), "after a restart, and on another replica")
	other := request("tok")
	other.Body = "another body"
	assert.Equal(t, "one", once(first, other, "two"), "the token wins")
	assert.Equal(t, "case", once(first, request("TOK"), "case"), "tokens are case sensitive")
	elsewhere := request("tok")
	elsewhere.Operation = "CreateThat"
	assert.Equal(t, "that", once(first, elsewhere, "that"), "each operation has tokens of its own")
	assert.Equal(t, "none", once(first, request(""), "none"))
	assert.Equal(t, "again", once(first, request(""), "again"))

	k.now = k.now.Add(clienttoken.Life - time.Second)
	require.NoError(t, first.Prune(t.Context()))
	assert.Equal(t, "one", once(first, request("tok"), "two"))
	k.now = k.now.Add(time.Second)
	assert.Equal(t, "two", once(first, request("tok"), "two"), "what is old is replaced, pruned or not")
	require.NoError(t, first.Prune(t.Context()))
	p, err := k.store.List(t.Context(), state.Root+"greengrass/token/", "", 0)
	require.NoError(t, err)
	assert.Len(t, p.Entries, 1, "the old ones are gone")
}

func TestOnlySuccessIsRemembered(t *testing.T) {
	k := &kit{store: memory.New(), now: time.Now()}
	tokens := k.tokens(t)
	failure := errors.New("no")
	_, err := clienttoken.Once(t.Context(), tokens, request("tok"), func(ctx context.Context, remember clienttoken.Remember[string]) (string, error) {
		require.NoError(t, remember(ctx, state.NewBatch(state.StepDeployment), "lost"))
		return "", failure
	})
	require.ErrorIs(t, err, failure)
	got, err := clienttoken.Once(t.Context(), tokens, request("tok"), k.create("one"))
	require.NoError(t, err)
	assert.Equal(t, "one", got)
}

func TestARepeatOfARunningRequestIsRefused(t *testing.T) {
	k := &kit{store: memory.New(), now: time.Now()}
	tokens := k.tokens(t)
	got, err := clienttoken.Once(t.Context(), tokens, request("tok"), func(ctx context.Context, remember clienttoken.Remember[string]) (string, error) {
		_, err := clienttoken.Once(ctx, tokens, request("tok"), k.create("two"))
		require.ErrorIs(t, err, clienttoken.ErrInProgress)
		require.ErrorIs(t, err, fault.Conflict)
		return k.create("one")(ctx, remember)
	})
	require.NoError(t, err)
	assert.Equal(t, "one", got)
}

func TestTwoReplicasAnswerTheSameAndDoItOnce(t *testing.T) {
	k := &kit{store: memory.New(), now: time.Now()}
	one, two := k.tokens(t), k.tokens(t)
	got, err := clienttoken.Once(t.Context(), one, request("tok"), func(ctx context.Context, remember clienttoken.Remember[string]) (string, error) {
		b := state.NewBatch(state.StepDeployment).Put(effect, "one")
		require.NoError(t, remember(ctx, b, "one"))
		other, err := clienttoken.Once(ctx, two, request("tok"), k.create("two"))
		require.NoError(t, err)
		assert.Equal(t, "two", other)
		_, err = k.store.Commit(ctx, b)
		require.ErrorIs(t, err, fault.Conflict)
		return k.create("one")(ctx, remember) // what a conflict leads to: another try
	})
	require.NoError(t, err)
	assert.Equal(t, "two", got)
	e, err := k.store.Get(t.Context(), effect)
	require.NoError(t, err)
	assert.Equal(t, `"two"`, string(e.Value))
}

func TestReplicasThatPruneAtOnceDoNotFail(t *testing.T) {
	k := &kit{store: memory.New(), now: time.Now()}
	tokens := k.tokens(t)
	_, err := clienttoken.Once(t.Context(), tokens, request("tok"), k.create("one"))
	require.NoError(t, err)
	k.now = k.now.Add(clienttoken.Life)
	raced := false
	k.store.FailCommit = func(*state.Batch) error {
		if raced {
			return nil
		}
		raced = true
		return k.tokens(t).Prune(t.Context())
	}
	require.NoError(t, tokens.Prune(t.Context()))
	assert.True(t, raced)
}
