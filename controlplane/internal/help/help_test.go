package help_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/help"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

func TestARequestFromQuestionToContent(t *testing.T) {
	k := newKit(t)
	r := k.ask(tail())
	assert.Equal(t, help.Waiting, r.Status)
	assert.Equal(t, k.clock().Add(help.DefaultWait), r.ExpiresAt)
	assert.Equal(t, []string{r.ID}, k.waiting("gw-1"))
	assert.Empty(t, k.waiting("gw-2"))
	_, err := k.Take(k.ctx, "gw-2", r.ID, protocol.HelpTake{Run: "run"})
	kind(t, err, fault.NotFound, "does not exist")

	order, err := k.Take(k.ctx, "gw-1", r.ID, protocol.HelpTake{Run: "run"})
	require.NoError(t, err)
	assert.Equal(t, r.HelpAsk, order.HelpAsk)
	again, err := k.Take(k.ctx, "gw-1", r.ID, protocol.HelpTake{Run: "run"})
	require.NoError(t, err, "the answer may have been lost")
	assert.Equal(t, order, again)
	assert.Equal(t, help.Taken, k.request(r.ID).Status)
	assert.Equal(t, []string{r.ID}, k.waiting("gw-1"), "another agent process must find it")
	_, _, err = k.Content(k.ctx, r.ID)
	kind(t, err, fault.Conflict, "when it is done")

	text := strings.Repeat("0123456789abcdef", 60_000)[:3*protocol.HelpPart+17]
	require.NoError(t, k.answer(r.ID, "run", text))
	got := k.request(r.ID)
	assert.Equal(t, help.Done, got.Status)
	assert.EqualValues(t, len(text), got.Size)
	assert.Equal(t, "pos-1", got.Next)
	assert.Empty(t, k.waiting("gw-1"))
	assert.Equal(t, text, k.content(r.ID))
	f, _, err := k.Content(k.ctx, r.ID)
	require.NoError(t, err)
	at, err := f.Seek(-20, io.SeekEnd)
	require.NoError(t, err)
	assert.EqualValues(t, len(text)-20, at)
	b, err := io.ReadAll(f)
	require.NoError(t, err)
	assert.Equal(t, text[len(text)-20:], string(b), "a range over the border of two parts")

	require.NoError(t, k.Report(k.ctx, "gw-1", r.ID, protocol.HelpResult{Run: "run", Outcome: protocol.HelpFailed}), "late or repeated")
	assert.Equal(t, got, k.request(r.ID))
	kind(t, k.Part(k.ctx, "gw-1", r.ID, "run", 0, 1, strings.NewReader("x")), fault.Conflict, "over")
	assert.ElementsMatch(t, []string{"Help Requested Event gw-1 waiting anna", "Help Ended Event gw-1 done anna"}, k.events())

	require.NoError(t, k.Delete(k.ctx, r.ID))
	assert.Empty(t, k.keys())
	assert.Empty(t, k.stored())
	kind(t, k.Delete(k.ctx, r.ID), fault.NotFound, r.ID)
	require.NoError(t, k.Report(k.ctx, "gw-1", r.ID, done("run", "")), "a report on what is gone is taken for nothing")
}

func TestWhatTheDeviceReportsBecomesTheStatus(t *testing.T) {
	for name, c := range map[string]struct {
		result  protocol.HelpResult
		status  help.Status
		message string
	}{
		"refused":                    {protocol.HelpResult{Outcome: protocol.HelpRefused, Message: "ask\x1b[2J the owner\xff"}, help.Refused, "ask[2J the owner"},
		"failed":                     {protocol.HelpResult{Outcome: protocol.HelpFailed, Message: "no such log"}, help.Failed, "no such log"},
		"nothing to send":            {protocol.HelpResult{Outcome: protocol.HelpDone}, help.Done, ""},
		"parts that are not all":     {done("", strings.Repeat("x", protocol.HelpPart+1)), help.Failed, "INCOMPLETE: not all of what the device sent has arrived; ask again"},
		"a message without end":      {protocol.HelpResult{Outcome: protocol.HelpFailed, Message: strings.Repeat("x", 1<<16)}, help.Failed, strings.Repeat("x", protocol.MaxHelpMessage-len("…")) + "…"},
		"a part that nobody told of": {protocol.HelpResult{Outcome: protocol.HelpDone, Size: 1, Digest: strings.Repeat("0", 64)}, help.Failed, "INCOMPLETE: not all of what the device sent has arrived; ask again"},
	} {
		t.Run(name, func(t *testing.T) {
			k := newKit(t)
			r := k.ask(tail())
			_, err := k.Take(k.ctx, "gw-1", r.ID, protocol.HelpTake{Run: "run"})
			require.NoError(t, err)
			if c.result.Size == int64(protocol.HelpPart+1) {
				require.NoError(t, k.Part(k.ctx, "gw-1", r.ID, "run", 0, protocol.HelpPart, strings.NewReader(strings.Repeat("x", protocol.HelpPart))))
			}
			c.result.Run = "run"
			require.NoError(t, k.Report(k.ctx, "gw-1", r.ID, c.result))
			got := k.request(r.ID)
			assert.Equal(t, c.status, got.Status)
			assert.Equal(t, c.message, got.Message)
			assert.Empty(t, k.stored(), "what did not end well leaves no content")
			if c.status != help.Done {
				_, _, err = k.Content(k.ctx, r.ID)
				kind(t, err, fault.NotFound, "has no content")
			}
		})
	}
}

func TestADeviceCannotSendWithoutBounds(t *testing.T) {
	k := newKit(t)
	send := func(id, run string, n int, size int64) error {
		return k.Part(k.ctx, "gw-1", id, run, n, size, strings.NewReader(strings.Repeat("x", int(size))))
	}
	logs, restart, bundle := k.ask(tail()), k.ask(of(protocol.HelpRestart)), k.ask(of(protocol.HelpBundle))
	for _, r := range []help.Request{logs, restart, bundle} {
		_, err := k.Take(k.ctx, "gw-1", r.ID, protocol.HelpTake{Run: "run"})
		require.NoError(t, err)
	}
	kind(t, send(logs.ID, "other", 0, 1), fault.Conflict, "over")
	kind(t, send(logs.ID, "run", 0, 0), fault.TooLarge, "1 to")
	kind(t, send(logs.ID, "run", 0, protocol.HelpPart+1), fault.TooLarge, "1 to")
	kind(t, send(logs.ID, "run", -1, 1), fault.TooLarge, "beyond")
	kind(t, send(logs.ID, "run", protocol.MaxHelpLog/protocol.HelpPart, 1), fault.TooLarge, "beyond")
	kind(t, send(restart.ID, "run", 0, 1), fault.TooLarge, "beyond")
	require.NoError(t, send(bundle.ID, "run", protocol.MaxHelpContent/protocol.HelpPart-1, protocol.HelpPart))
	kind(t, send(bundle.ID, "run", protocol.MaxHelpContent/protocol.HelpPart, 1), fault.TooLarge, "beyond")
	for _, bad := range []protocol.HelpResult{
		{Run: "run", Outcome: "perhaps"},
		{Run: "run", Outcome: protocol.HelpDone, Size: protocol.MaxHelpLog + 1, Digest: strings.Repeat("0", 64)},
		{Run: "run", Outcome: protocol.HelpDone, Size: 1, Digest: "no"},
		{Run: "run", Outcome: protocol.HelpDone, Next: "../x"},
	} {
		kind(t, k.Report(k.ctx, "gw-1", logs.ID, bad), fault.Invalid, "")
	}
	_, err := k.Take(k.ctx, "gw-1", logs.ID, protocol.HelpTake{Run: "a/../b"})
	kind(t, err, fault.Invalid, "run")
}

func TestWrongRequestsAreRefusedByMember(t *testing.T) {
	k := newKit(t)
	change := func(f func(*help.New)) help.New { n := tail(); f(&n); return n }
	for name, c := range map[string]struct {
		n    help.New
		kind fault.Kind
		text string
	}{
		"an unknown kind":              {change(func(n *help.New) { n.Kind = "shell" }), fault.Invalid, "kind"},
		"a log of nothing":             {change(func(n *help.New) { n.Of = "" }), fault.Invalid, "of: "},
		"a component without name":     {change(func(n *help.New) { n.Of = protocol.HelpOfComponent }), fault.Invalid, "component"},
		"a component that is a path":   {change(func(n *help.New) { n.Of, n.Component = protocol.HelpOfComponent, "../../etc/shadow" }), fault.Invalid, "component"},
		"a component that is a glob":   {change(func(n *help.New) { n.Of, n.Component = protocol.HelpOfComponent, "*" }), fault.Invalid, "component"},
		"a component that is a flag":   {change(func(n *help.New) { n.Of, n.Component = protocol.HelpOfComponent, "--all" }), fault.Invalid, "component"},
		"a name where none belongs":    {change(func(n *help.New) { n.Component = "x" }), fault.Invalid, "component"},
		"too many lines":               {change(func(n *help.New) { n.Lines = 10_001 }), fault.Invalid, "lines: is 10001, want 1 to 10000"},
		"a member of another kind":     {change(func(n *help.New) { n.Length = 5 }), fault.Invalid, "does not belong"},
		"an unknown diagnostic":        {change(func(n *help.New) { n.HelpAsk = protocol.HelpAsk{Kind: protocol.HelpDiagnose, Diagnostic: "rm"} }), fault.Invalid, "diagnostic"},
		"a wait of a second":           {change(func(n *help.New) { n.Wait = time.Second }), fault.Invalid, "expiresSeconds"},
		"a wait of a month":            {change(func(n *help.New) { n.Wait = 30 * 24 * time.Hour }), fault.Invalid, "expiresSeconds"},
		"a restart of the agent":       {change(func(n *help.New) { n.HelpAsk = protocol.HelpAsk{Kind: protocol.HelpRestart, Of: protocol.HelpOfAgent} }), fault.Invalid, "of: "},
		"a position of somebody's own": {change(func(n *help.New) { *n = of(protocol.HelpLogsRange); n.From = "../x" }), fault.Invalid, "from"},
		"to follow nothing":            {change(func(n *help.New) { *n = of(protocol.HelpLogsRange); n.Follows = "none" }), fault.NotFound, "none"},
		"to follow a tail with a tail": {change(func(n *help.New) { n.Follows = "x" }), fault.Invalid, "follows"},
		"no such device":               {change(func(n *help.New) { n.Subject.Name = "none" }), fault.NotFound, "none"},
		"a device without agent":       {change(func(n *help.New) { n.Subject.Name = "bare" }), fault.Conflict, "no agent of bare"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := k.Create(k.ctx, c.n)
			kind(t, err, c.kind, c.text)
		})
	}
	assert.Empty(t, k.keys(), "nothing partial is stored")
	assert.Empty(t, k.events())
}

func TestADeviceHasFewRequestsOpenHoweverManyAskAtOnce(t *testing.T) {
	k := newKit(t)
	var wg sync.WaitGroup
	errs := make([]error, 20)
	for i := range errs {
		wg.Go(func() { _, errs[i] = k.Create(k.ctx, tail()) })
	}
	wg.Wait()
	made := 0
	for _, err := range errs {
		if err == nil {
			made++
			continue
		}
		kind(t, err, fault.Exhausted, "4 requests open")
	}
	assert.Equal(t, protocol.MaxHelpOpen, made)
	assert.Len(t, k.waiting("gw-1"), made)
	require.NoError(t, k.Delete(k.ctx, k.waiting("gw-1")[1]), "one is withdrawn")
	assert.Contains(t, k.events(), "Help Ended Event gw-1 withdrawn anna")
	k.ask(tail())
}

func TestRequestsEndInTime(t *testing.T) {
	k := newKit(t)
	never, taken := k.ask(tail()), k.ask(of(protocol.HelpBundle))
	_, err := k.Take(k.ctx, "gw-1", taken.ID, protocol.HelpTake{Run: "run"})
	require.NoError(t, err)
	k.pass(help.DefaultWait - time.Second)
	require.NoError(t, k.Sweep(k.ctx))
	assert.Len(t, k.waiting("gw-1"), 2)
	k.pass(time.Second)
	_, err = k.Take(k.ctx, "gw-1", never.ID, protocol.HelpTake{Run: "run"})
	kind(t, err, fault.Conflict, "over")
	require.NoError(t, k.Sweep(k.ctx))
	assert.Equal(t, help.Expired, k.request(never.ID).Status)
	assert.Equal(t, "the device did not come within 10m0s", k.request(never.ID).Message)
	k.pass(protocol.HelpPatience)
	require.NoError(t, k.Sweep(k.ctx))
	assert.Equal(t, "the device took the request at 2026-05-01T09:30:00Z and has not reported", k.request(taken.ID).Message)
	assert.Empty(t, k.waiting("gw-1"))
	assert.Contains(t, k.events(), "Help Ended Event gw-1 expired anna")

	kept := k.ask(tail())
	require.NoError(t, k.answer(kept.ID, "run", "text"))
	k.pass(help.Keep - time.Second)
	require.NoError(t, k.Sweep(k.ctx))
	assert.Equal(t, "text", k.content(kept.ID))
	k.pass(time.Second)
	require.NoError(t, k.Sweep(k.ctx))
	assert.Empty(t, k.keys(), "a week later nothing is left")
	assert.Empty(t, k.stored())
}

func TestAnotherAgentProcessRepeatsWhatDoesNoHarm(t *testing.T) {
	k := newKit(t)
	logs, restart := k.ask(tail()), k.ask(of(protocol.HelpRestart))
	for _, r := range []help.Request{logs, restart} {
		_, err := k.Take(k.ctx, "gw-1", r.ID, protocol.HelpTake{Run: "first"})
		require.NoError(t, err)
	}
	require.NoError(t, k.Part(k.ctx, "gw-1", logs.ID, "first", 0, 3, strings.NewReader("old")))
	require.NoError(t, k.answer(logs.ID, "second", "new"))
	assert.Equal(t, "new", k.content(logs.ID), "parts of two runs never mix")
	require.NoError(t, k.Delete(k.ctx, logs.ID))
	assert.Empty(t, k.stored())

	_, err := k.Take(k.ctx, "gw-1", restart.ID, protocol.HelpTake{Run: "second"})
	kind(t, err, fault.Conflict, "over")
	assert.Equal(t, help.Failed, k.request(restart.ID).Status)
	assert.Contains(t, k.request(restart.ID).Message, "INTERRUPTED: ", "a restart never happens twice")
	require.NoError(t, k.Report(k.ctx, "gw-1", restart.ID, protocol.HelpResult{Run: "first", Outcome: protocol.HelpDone}))
	assert.Equal(t, help.Failed, k.request(restart.ID).Status)
}

func TestARequestWithAKeyIsMadeOnce(t *testing.T) {
	k := newKit(t)
	n := of(protocol.HelpRestart)
	n.Key = "once"
	first := k.ask(n)
	assert.Equal(t, first, k.ask(n), "the answer was lost: it is asked for again")
	n.Key = "twice"
	assert.NotEqual(t, first.ID, k.ask(n).ID)
	assert.Len(t, k.waiting("gw-1"), 2)
}

func TestANewRunLeavesNothingOfTheOneBefore(t *testing.T) {
	k := newKit(t)
	r := k.ask(tail())
	for _, run := range []string{"first", "second", "third"} {
		_, err := k.Take(k.ctx, "gw-1", r.ID, protocol.HelpTake{Run: run})
		require.NoError(t, err)
		require.NoError(t, k.Part(k.ctx, "gw-1", r.ID, run, 0, 3, strings.NewReader("abc")))
		assert.Len(t, k.stored(), 1, "an agent may send as much as one answer, however often it begins anew")
	}
}

func TestFollowingTakesThePlaceOfWhatWasBefore(t *testing.T) {
	k := newKit(t)
	first := k.ask(tail())
	follow := of(protocol.HelpLogsRange)
	follow.Follows = first.ID
	_, err := k.Create(k.ctx, follow)
	kind(t, err, fault.Conflict, "has not ended")
	require.NoError(t, k.answer(first.ID, "run", "one\n"))
	for name, f := range map[string]func(*help.New){
		"somebody else's": func(n *help.New) { n.By = "bert" },
		"another device":  func(n *help.New) { n.Subject.Name = "gw-2" },
		"another log":     func(n *help.New) { n.Of = protocol.HelpOfAgent },
	} {
		other := follow
		f(&other)
		_, err := k.Create(k.ctx, other)
		kind(t, err, fault.Invalid, "follows")
		_ = name
	}
	second := k.ask(follow)
	assert.Equal(t, "pos-1", second.From)
	_, err = k.Request(k.ctx, first.ID)
	kind(t, err, fault.NotFound, first.ID)
	assert.Empty(t, k.stored())
	k.pass(help.DefaultWait)
	require.NoError(t, k.Sweep(k.ctx))
	follow.Follows = second.ID
	third := k.ask(follow)
	assert.Equal(t, "pos-1", third.From, "one that the device did not come for loses no place")
	require.NoError(t, k.answer(third.ID, "run", "two\n"))
	assert.ElementsMatch(t, []string{"Help Requested Event gw-1 waiting anna", "Help Ended Event gw-1 done anna"}, k.events(), "the first one is audited, what goes on with it is not")
	list, next, err := k.Requests(k.ctx, "gw-1", help.Page{})
	require.NoError(t, err)
	assert.Empty(t, next)
	assert.Len(t, list, 1, "an hour of following leaves one request")
}

func TestPagesOfADevicesRequests(t *testing.T) {
	k := newKit(t)
	var want []string
	for range 5 {
		r := k.ask(tail())
		require.NoError(t, k.answer(r.ID, "run", ""))
		want = append([]string{r.ID}, want...)
		k.pass(time.Second)
	}
	var got []string
	for p := (help.Page{Count: 2}); ; {
		list, next, err := k.Requests(k.ctx, "gw-1", p)
		require.NoError(t, err)
		for _, r := range list {
			got = append(got, r.ID)
		}
		if p.After = next; next == "" {
			break
		}
	}
	assert.Equal(t, want, got)
	_, _, err := k.Requests(k.ctx, "gw-1", help.Page{After: "a/b"})
	kind(t, err, fault.Invalid, "exclusiveStartToken")
	require.NoError(t, k.Forget(k.ctx, "gw-1"))
	assert.Empty(t, k.keys(), "a device that is deleted leaves none")
}

// A whole story is told again and again, with the process dying at each commit,
// before and after it is applied; what is open is carried on by the next one.
func TestKilledAtEachCommitARequestEndsOnce(t *testing.T) {
	for _, half := range []bool{false, true} {
		for n := 1; n < 8; n++ {
			t.Run(fmt.Sprintf("commit %d, applied %t", n, half), func(t *testing.T) {
				k := newKit(t)
				k.store.half = half
				k.store.dieAfter(n)
				again := func(f func() error) error {
					err := f()
					if errors.Is(err, errDead) {
						k.restart()
						err = f()
					}
					if errors.Is(err, fault.Conflict) {
						return nil // it had been applied
					}
					return err
				}
				require.NoError(t, again(func() error { _, err := k.Create(k.ctx, tail()); return err }))
				asked := k.waiting("gw-1")
				for _, id := range asked {
					require.NoError(t, again(func() error { return k.answer(id, "run", "text") }))
					assert.Equal(t, "text", k.content(id))
				}
				assert.Empty(t, k.waiting("gw-1"))
				assert.Len(t, k.events(), 2*len(asked), "each has its beginning and its end once")
				k.pass(help.Keep)
				require.NoError(t, again(func() error { return k.Sweep(k.ctx) }))
				require.NoError(t, k.Sweep(k.ctx))
				k.pass(max(0, time.Since(k.clock())) + 2*time.Hour) // objects have the time of the machine
				require.NoError(t, k.SweepContents(k.ctx))
				assert.Empty(t, k.keys())
				assert.Empty(t, k.stored())
			})
		}
	}
}

func TestEveryReplicaGivesNoticeToItsDevices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- k.Run(ctx) }()
		synctest.Wait()
		n := tail()
		k.ask(n)
		n.Subject.Role = protocol.RoleClient
		n.Subject.Name = "gw-2"
		k.ask(n)
		synctest.Wait()
		assert.Equal(t, []string{"ggfleet/v1/cores/gw-1/help", "ggfleet/v1/devices/gw-2/help"}, k.notices())
		cancel()
		require.NoError(t, <-done)
	})
}
