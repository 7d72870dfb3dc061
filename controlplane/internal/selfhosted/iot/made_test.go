package iot_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/iot"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
)

func TestCertificatesAreListedInTheOrderMadeFromEitherEnd(t *testing.T) {
	for _, c := range []struct {
		name  string
		apart time.Duration
	}{{"years apart", 300 * 24 * time.Hour / 50}, {"within a second", time.Millisecond}, {"all at once", 0}} {
		t.Run(c.name, func(t *testing.T) {
			k := newKit(t)
			const n = 700 // more than one look at the tree reads
			begin, first := k.now, ""
			var want []string
			for i := range n {
				k.now = begin.Add(time.Duration(i) * c.apart)
				ca := k.CA().ID
				if i%100 == 0 {
					ca = "other"
				}
				id := fmt.Sprintf("%064x", i)
				_, err := k.AddCertificate(t.Context(), cloud.Issued{ID: id, CAID: ca}, cloud.Inactive)
				require.NoError(t, err)
				if want = append(want, id); i == 0 {
					first = id
				}
			}
			for _, ascending := range []bool{true, false} {
				for _, size := range []int{1000, 250, 33} {
					got := k.listed("", ascending, size)
					if !ascending {
						for i, j := 0, len(got)-1; i < j; i, j = i+1, j-1 {
							got[i], got[j] = got[j], got[i]
						}
					}
					require.Equal(t, want, got, "ascending %t, pages of %d", ascending, size)
				}
				of := k.listed("other", ascending, 3)
				assert.Len(t, of, n/100)
				assert.Contains(t, of, first)
				assert.Empty(t, k.listed("none", ascending, 3))
			}
		})
	}
}

func (k *kit) listed(ca string, ascending bool, size int) (ids []string) {
	k.t.Helper()
	p := iot.Page{Limit: size, Ascending: ascending}
	for range 5000 {
		list, next, err := k.ListCertificates(k.t.Context(), ca, p)
		require.NoError(k.t, err)
		require.LessOrEqual(k.t, len(list), size)
		for _, c := range list {
			ids = append(ids, c.ID)
		}
		if p.After = next; next == "" {
			return ids
		}
	}
	k.t.Fatal("the list has no end")
	return nil
}

func TestWhatWasMadeBeforeThereWasAnOrderIsListed(t *testing.T) {
	k, ctx := newKit(t), t.Context()
	var want []string
	for i := range 130 {
		b := state.NewBatch(state.StepRegistry)
		id := fmt.Sprintf("%064x", i)
		b.Put(state.Root+"iot/cert/"+id, map[string]any{"id": id, "createdAt": k.now.Add(time.Duration(i) * time.Minute)})
		b.Put(state.Root+"iot/policy/"+fmt.Sprint("p", i), map[string]any{"name": fmt.Sprint("p", i), "document": allowAll, "createdAt": k.now})
		_, err := k.store.Commit(ctx, b)
		require.NoError(t, err)
		want = append(want, id)
	}
	assert.Equal(t, want, k.listed("", true, 50))
	list, next, err := k.Policies(ctx, iot.Page{Limit: 200})
	require.NoError(t, err)
	assert.Empty(t, next)
	assert.Len(t, list, 130)
	require.NoError(t, k.DeleteCertificate(ctx, k.spare(cloud.Inactive).ID, false))
}

type counting struct {
	state.Store
	requests, entries int
}

func (c *counting) List(ctx context.Context, prefix, after string, limit int) (state.Page, error) {
	p, err := c.Store.List(ctx, prefix, after, limit)
	c.requests, c.entries = c.requests+1, c.entries+len(p.Entries)
	return p, err
}

func TestAPageOfALongListReadsLittle(t *testing.T) {
	k, ctx := newKit(t), t.Context()
	const n = 20_000 // in a quarter of an hour, as provisioning makes them
	b := state.NewBatch(state.StepRegistry)
	for i := range n {
		id := fmt.Sprintf("%064x", i)
		at := k.now.Add(time.Duration(i) * 45 * time.Millisecond)
		b.Put(state.Root+"iot/made/cert/"+fmt.Sprintf("%012x", at.UnixMilli())+id, map[string]string{"id": id})
		if b.Len() == 100 {
			_, err := k.store.Commit(ctx, b)
			require.NoError(t, err)
			b = state.NewBatch(state.StepRegistry)
		}
	}
	store := &counting{Store: k.store}
	r, err := iot.New(iot.Config{Store: store, Realm: k.Realm(), CA: k.CA()})
	require.NoError(t, err)
	p, most := iot.Page{Limit: 25}, 0
	for range 40 {
		store.requests, store.entries = 0, 0
		_, next, err := r.ListCertificates(ctx, "", p)
		require.NoError(t, err)
		require.NotEmpty(t, next)
		assert.Less(t, store.requests, 60)
		assert.Less(t, store.entries, 6000)
		p.After = next
		if n := store.requests; n > most {
			most = n
		}
	}
	t.Logf("at most %d requests a page", most)
}
