package selfupdate_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ggfleet/ggfleet/agent/internal/selfupdate"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

func digest(n int) string { return fmt.Sprintf("%064x", n) }

func slot(minor int, base string) selfupdate.Slot {
	return selfupdate.Slot{Version: fmt.Sprintf("1.%d.0", minor), Digest: digest(minor), Base: base}
}

func TestANewerPackageWins(t *testing.T) {
	for name, tc := range map[string]struct {
		release, chosenBeside, packaged string
		wins                            bool
	}{
		"the package it was chosen beside":        {"1.4.0", "1.2.0", "1.2.0", false},
		"a newer package":                         {"1.4.0", "1.2.0", "1.5.0", true},
		"the same version as a package":           {"1.4.0", "1.2.0", "1.4.0", true},
		"a package that is newer, but not so new": {"1.4.0", "1.2.0", "1.3.0", false},
		"an older package":                        {"1.4.0", "1.2.0", "1.1.0", false},
		"a build by hand":                         {"1.4.0", "1.2.0", "dev", true},
		"a signed step back from the package":     {"1.1.0", "1.2.0", "1.2.0", false},
		"a package after a signed step back":      {"1.1.0", "1.2.0", "1.3.0", true},
		"a build by hand that it was chosen at":   {"1.4.0", "dev", "dev", false},
	} {
		t.Run(name, func(t *testing.T) {
			s := selfupdate.Slot{Version: tc.release, Digest: digest(1), Base: tc.chosenBeside}
			r := selfupdate.Record{Committed: &s}
			got, _ := r.Next(tc.packaged, true)
			assert.Equal(t, tc.wins, got == nil)
			assert.Equal(t, tc.wins, r.Committed == nil, "and the release is forgotten")
		})
	}
}

func TestATrialEndsAfterThreeStarts(t *testing.T) {
	committed := slot(3, "1.2.0")
	r := selfupdate.Record{Committed: &committed}
	r.Begin(selfupdate.Trial{Slot: slot(4, "1.2.0"), From: "1.3.0"})
	for range selfupdate.MaxStarts {
		s, trial := r.Next("1.2.0", true)
		require.True(t, trial)
		require.Equal(t, "1.4.0", s.Version)
	}
	s, trial := r.Next("1.2.0", true)
	assert.False(t, trial)
	assert.Equal(t, "1.3.0", s.Version, "the one before runs")
	assert.Equal(t, protocol.UpdateFailed, r.Last.State)
	assert.Contains(t, r.Last.Reason, "three times")
	_, rejected := r.IsRejected(digest(4))
	assert.True(t, rejected)
}

func TestAStartThatCannotBeCountedIsNotTried(t *testing.T) {
	r := selfupdate.Record{}
	r.Begin(selfupdate.Trial{Slot: slot(4, "1.2.0")})
	s, _ := r.Next("1.2.0", false)
	assert.Nil(t, s)
	require.NotNil(t, r.Trial, "it stays for later")
}

func TestAProvenReleaseThatEndsAgainAndAgainIsLeft(t *testing.T) {
	c := slot(4, "1.2.0")
	r := selfupdate.Record{Committed: &c}
	for range selfupdate.MaxEnds {
		s, _ := r.Next("1.2.0", true)
		require.NotNil(t, s)
	}
	s, _ := r.Next("1.2.0", true)
	assert.Nil(t, s, "the packaged agent runs")
	assert.Equal(t, protocol.UpdateFailed, r.Last.State)
}

func TestWhoIsToBlameForSilence(t *testing.T) {
	begin := func() selfupdate.Record {
		r := selfupdate.Record{}
		r.Begin(selfupdate.Trial{Slot: slot(4, "1.2.0")})
		return r
	}
	t.Run("the release, when the old one reached the control plane each time", func(t *testing.T) {
		r := begin()
		for i := range selfupdate.MaxSilent {
			r.GiveUp("silent", false)
			s, _ := r.Next("1.2.0", true)
			require.Nil(t, s, "the old one runs while it waits")
			r.Judge(true)
			if r.Trial != nil {
				r.Judge(true) // once for each round
			}
			if i < selfupdate.MaxSilent-1 {
				r.Again("")
			}
		}
		assert.Nil(t, r.Trial)
		assert.Equal(t, protocol.UpdateFailed, r.Last.State)
	})
	t.Run("the network, when the old one did not either; but not for ever", func(t *testing.T) {
		r := begin()
		for i := range selfupdate.MaxRounds {
			require.NotNil(t, r.Trial, "round %d", i)
			r.GiveUp("silent", false)
			r.Judge(false)
			if r.Trial != nil {
				r.Again("")
			}
		}
		assert.Nil(t, r.Trial)
	})
	t.Run("the release, when it reached the control plane and did not work", func(t *testing.T) {
		r := begin()
		r.GiveUp("the nucleus is failed", true)
		assert.Nil(t, r.Trial)
		assert.Equal(t, "the nucleus is failed", r.Last.Reason)
	})
}

func TestOldAndNewAgentsReadEachOthersRecord(t *testing.T) {
	later := `{"format": 2, "committed": {"version": "1.4.0", "digest": "` + digest(4) + `", "base": "1.2.0", "starts": 0}, "channel": {"name":"beta"}}`
	var r selfupdate.Record
	require.NoError(t, json.Unmarshal([]byte(later), &r))
	s, _ := r.Next("1.2.0", true)
	require.Equal(t, "1.4.0", s.Version)
	b, err := json.Marshal(r)
	require.NoError(t, err)
	assert.Contains(t, string(b), `"channel":{"name":"beta"}`, "what a later agent added stays")
	assert.Contains(t, string(b), `"format":2`)
	assert.Contains(t, string(b), `"starts":1`)
	var again selfupdate.Record
	require.NoError(t, json.Unmarshal(b, &again))
	assert.Equal(t, r, again)

	var first selfupdate.Record
	require.NoError(t, json.Unmarshal([]byte(`{"committed": {"version": "1.1.0", "digest": "`+digest(1)+`"}}`), &first), "one that an earlier agent wrote")
	b, err = json.Marshal(first)
	require.NoError(t, err)
	assert.Contains(t, string(b), `"format":1`)
}

// device is a device in the property test: a stored record, files, and a process.
type device struct {
	stored  selfupdate.Record
	base    int          // minor version of the package
	broken  map[int]bool // slots whose file cannot be run
	full    bool         // nothing can be stored
	next    int          // minor version of the next release
	runs    int          // minor version of what runs; 0: nothing
	trial   bool
	started map[string]int // starts of trials, by digest
	bad     map[string]bool
}

func (d *device) baseVersion() string { return fmt.Sprintf("1.%d.0", d.base) }

// start is what handing.run does, over the same decisions.
func (d *device) start(t *rapid.T) {
	r := d.stored.Clone()
	for range selfupdate.MaxStarts {
		before := r.Clone()
		s, trial := r.Next(d.baseVersion(), true)
		if d.full {
			r = before
			s, trial = r.Next(d.baseVersion(), false)
		} else {
			d.stored = r.Clone()
		}
		if s == nil {
			break
		}
		var minor int
		_, err := fmt.Sscanf(s.Version, "1.%d.0", &minor)
		require.NoError(t, err)
		if d.broken[minor] {
			r.Unusable(s.Digest, "broken")
			if !d.full {
				d.stored = r.Clone()
			}
			continue
		}
		if trial {
			d.started[s.Digest]++
			require.False(t, d.full, "a trial that is not counted")
			require.LessOrEqual(t, r.Trial.Starts, selfupdate.MaxStarts)
		}
		require.False(t, d.bad[s.Digest] && !trial, "a rejected release runs")
		d.runs, d.trial = minor, trial
		return
	}
	d.runs, d.trial = d.base, false
}

func TestWhateverHappensARunnableAgentIsHandedOverTo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := &device{base: 1, next: 2, broken: map[int]bool{}, started: map[string]int{}, bad: map[string]bool{}}
		d.start(t)
		change := func(f func(r *selfupdate.Record)) {
			if !d.full {
				r := d.stored.Clone()
				f(&r)
				d.stored = r
				for _, x := range r.Rejected {
					d.bad[x.Digest] = true
				}
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"offer": func(t *rapid.T) {
				if d.stored.Trial != nil {
					t.Skip()
				}
				d.next++
				change(func(r *selfupdate.Record) {
					r.Begin(selfupdate.Trial{Slot: slot(d.next, d.baseVersion()), From: fmt.Sprintf("1.%d.0", d.runs)})
				})
			},
			"crash":  d.start,
			"reboot": d.start,
			"proof": func(t *rapid.T) {
				if !d.trial || d.stored.Trial == nil || d.stored.Trial.Waiting {
					t.Skip()
				}
				change(func(r *selfupdate.Record) { r.Prove() })
				d.trial = d.stored.Trial != nil
			},
			"time is over": func(t *rapid.T) {
				if !d.trial || d.stored.Trial == nil || d.stored.Trial.Waiting {
					t.Skip()
				}
				reached := rapid.Bool().Draw(t, "reached")
				change(func(r *selfupdate.Record) { r.GiveUp("late", reached) })
				d.start(t)
			},
			"judged": func(t *rapid.T) {
				if d.trial || d.stored.Trial == nil || !d.stored.Trial.Waiting {
					t.Skip()
				}
				there := rapid.Bool().Draw(t, "there")
				change(func(r *selfupdate.Record) {
					if r.Judge(there); r.Trial != nil {
						r.Again("")
					}
				})
				d.start(t)
			},
			"withdrawn": func(t *rapid.T) {
				if d.trial || d.stored.Trial == nil || !d.stored.Trial.Waiting {
					t.Skip()
				}
				change(func(r *selfupdate.Record) { r.Withdraw() })
			},
			"the disk is full, or free again": func(*rapid.T) { d.full = !d.full },
			"a file breaks":                   func(t *rapid.T) { d.broken[rapid.IntRange(2, d.next).Draw(t, "slot")] = true },
			"a package": func(t *rapid.T) {
				d.base = rapid.IntRange(1, d.next+2).Draw(t, "version")
				d.next = max(d.next, d.base)
				d.start(t)
			},
			"": func(t *rapid.T) {
				require.NotZero(t, d.runs, "something runs")
				for dg, n := range d.started {
					require.LessOrEqual(t, n, selfupdate.MaxStarts*selfupdate.MaxRounds, "release %s is tried for ever", strings.TrimLeft(dg, "0"))
				}
			},
		})
		// Whatever was left: with room on the disk, a device that is started again and
		// again comes to rest with a program that is not on trial, or with one that is
		// being kept from its proof by nothing but us.
		d.full = false
		for range selfupdate.MaxStarts*2 + selfupdate.MaxEnds + 2 {
			d.start(t)
		}
		require.False(t, d.trial)
		require.True(t, d.runs == d.base || !d.broken[d.runs])
	})
}
