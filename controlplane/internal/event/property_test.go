package event_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/ggfleet/ggfleet/controlplane/internal/event"
	"github.com/ggfleet/ggfleet/controlplane/internal/event/webhook"
	"github.com/ggfleet/ggfleet/controlplane/internal/state/memory"
)

// A receiver's answers are drawn: fine, 500, no connection, no answer, too busy.
func TestARebelliousReceiverHasEachEventAndFirstInOrder(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		answers := rapid.SliceOfN(rapid.SampledFrom([]byte("oooooo5ch9")), 0, 60).Draw(rt, "answers")
		steps := rapid.SliceOfN(rapid.SampledFrom([]byte("eeeeeeeerxw")), 1, 60).Draw(rt, "steps") // event, restart, expire, wait
		var problems []string
		synctest.Test(t, func(t *testing.T) { problems = rebel(t, answers, steps) })
		if len(problems) > 0 {
			rt.Fatalf("%s", strings.Join(problems, "\n"))
		}
	})
}

func rebel(t *testing.T, answers, steps []byte) (problems []string) {
	var mu sync.Mutex
	r := newReceiver(func(webhook.CloudEvent, int) (*http.Response, error) {
		mu.Lock()
		answer := byte('o')
		if len(answers) > 0 {
			answer, answers = answers[0], answers[1:]
		}
		mu.Unlock()
		switch answer {
		case '5':
			return status(http.StatusInternalServerError)
		case '9':
			return status(http.StatusTooManyRequests, "Retry-After", "30")
		case 'c':
			return nil, http.ErrHandlerTimeout
		case 'h':
			return nil, nil
		}
		return status(http.StatusOK)
	})
	s, store, w, stop := hooked(t, r, event.NewWebhook{}, event.Config{GiveUp: 24 * time.Hour})
	var n int64
	for _, step := range steps {
		switch step {
		case 'e':
			happen(t, store, event.CoreCreated, coreName(int(n%3)), int(n))
			n++
		case 'r':
			stop()
			stop = start(t, newService(t, event.Config{Store: store, Sender: to(r), GiveUp: 24 * time.Hour}))
		case 'x':
			expireAll(store)
		case 'w':
			settle(3 * time.Second)
		}
		settle(20 * time.Millisecond)
	}
	settle(90 * time.Minute)
	stop()
	first := map[string][]int{}
	seen := map[int]bool{}
	for i, k := range r.numbers(t) {
		if !seen[k] {
			seen[k] = true
			core := r.got[i].Subject
			first[core] = append(first[core], k)
		}
	}
	if int64(len(seen)) != n {
		problems = append(problems, fmt.Sprintf("%d of %d events arrived", len(seen), n))
	}
	for core, list := range first {
		if !slices.IsSorted(list) {
			problems = append(problems, fmt.Sprintf("%s had %v", core, list))
		}
	}
	if at, err := s.Webhook(t.Context(), w.ID); err != nil || at.Sequence != n || at.Lost != 0 {
		problems = append(problems, fmt.Sprintf("the webhook is at %+v of %d, %v", at, n, err))
	}
	return problems
}

func expireAll(s *memory.Store) {
	for id := range int64(300) {
		s.Expire(id)
	}
}
