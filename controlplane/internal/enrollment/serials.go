package enrollment

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/names"
)

// MaxSerials bounds the serials of one rule, MaxSerialBytes the text they come in.
const (
	MaxSerials     = 100_000
	MaxSerialBytes = 8 << 20
)

// A list of serials lies in buckets, so that looking one up reads little and no
// record is large. A rule names the list that counts: an upload makes another one
// and is seen whole or not at all.
func serialPrefix(rule string) string { return prefix + "serials/" + rule + "/" }

func bucketKey(rule, list, serial string) string {
	h := sha256.Sum256([]byte(serial))
	return serialPrefix(rule) + list + "/" + hex.EncodeToString(h[:1])
}

type bucket struct {
	Names map[string]string `json:"names"` // by serial; empty: the device says its name
	At    time.Time         `json:"at"`
}

// serial looks a serial up in the rule's list and returns the name beside it.
func (s *Service) serial(ctx context.Context, r Rule, serial string) (name string, found bool, err error) {
	if serial == "" || r.SerialList == "" {
		return "", false, nil
	}
	b, err := state.ReadOr[bucket](ctx, s.store, bucketKey(r.Name, r.SerialList, serial))
	if err != nil {
		return "", false, fmt.Errorf("look up serial in the list of enrolment rule %s: %w", r.Name, err)
	}
	name, found = b.Value.Names[serial]
	return name, found, nil
}

// ParseSerials reads a list: one serial a line, and after a comma the name of its
// device if the device does not know it. Empty lines and those that begin with #
// are passed over.
func ParseSerials(text []byte) (map[string]string, error) {
	if len(text) > MaxSerialBytes {
		return nil, fault.New(fault.TooLarge, "the list has %d bytes, at most %d are taken", len(text), MaxSerialBytes)
	}
	out, byName := map[string]string{}, map[string]int{}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		at := fmt.Sprintf("line %d", n)
		line := strings.TrimSpace(strings.TrimPrefix(lines.Text(), "\ufeff"))
		if line == "" || line[0] == '#' {
			continue
		}
		serial, name, _ := strings.Cut(line, ",")
		serial, name = strings.TrimSpace(serial), strings.TrimSpace(name)
		if serial == "" {
			return nil, fault.Field(at, "has no serial before the comma")
		}
		if err := checkText(at, serial, maxSerial); err != nil {
			return nil, err
		}
		if _, twice := out[serial]; twice {
			return nil, fault.Field(at, "has the serial %q, which stands further up already", serial)
		}
		if name != "" {
			if err := checkName(name); err != nil {
				return nil, fault.Field(at, "%s", fault.Message(err))
			}
			if before := byName[name]; before != 0 {
				return nil, fault.Field(at, "has the name %q, which line %d has already", name, before)
			}
			byName[name] = n
		}
		if out[serial] = name; len(out) > MaxSerials {
			return nil, fault.New(fault.TooLarge, "the list has more than %d serials", MaxSerials)
		}
	}
	if lines.Err() != nil {
		return nil, fault.New(fault.Invalid, "the list has a line that is longer than %d bytes", bufio.MaxScanTokenSize)
	}
	return out, nil
}

// PutSerials gives a rule its list, in the place of the one it has.
func (s *Service) PutSerials(ctx context.Context, rule string, text []byte, by string, ifVersion int) (Rule, error) {
	serials, err := ParseSerials(text)
	if err != nil {
		return Rule{}, err
	}
	now, err := s.Rule(ctx, rule)
	if err != nil {
		return Rule{}, err
	}
	if ifVersion != 0 && now.Version != ifVersion {
		return Rule{}, fault.New(fault.Stale, "enrolment rule %s has version %d, not %d; read it again", rule, now.Version, ifVersion)
	}
	list := names.NewUUID()
	buckets := map[string]bucket{}
	for serial, name := range serials {
		key := bucketKey(rule, list, serial)
		if buckets[key].Names == nil {
			buckets[key] = bucket{Names: map[string]string{}, At: s.stamp()}
		}
		buckets[key].Names[serial] = name
	}
	for key, b := range buckets { // one by one: a few hundred small commits, none of them large
		if _, err := s.store.Commit(ctx, state.NewBatch(state.StepEnrollRule).Put(key, b)); err != nil {
			return Rule{}, fmt.Errorf("store serials of enrolment rule %s: %w", rule, err)
		}
	}
	r, err := s.changeRule(ctx, rule, ifVersion, false, func(r *Rule) { r.SerialList, r.SerialCount = list, len(serials) })
	if err != nil {
		return Rule{}, fmt.Errorf("give enrolment rule %s its serials: %w", rule, err)
	}
	s.log.InfoContext(ctx, "serials of enrolment rule stored", "rule", rule, "serials", len(serials), logx.Actor, by)
	if now.SerialList != "" {
		return r, s.dropSerials(ctx, rule, now.SerialList)
	}
	return r, nil
}

// dropSerials removes one list of a rule, or with "" all of them.
func (s *Service) dropSerials(ctx context.Context, rule, list string) error {
	under := serialPrefix(rule)
	if list != "" {
		under += list + "/"
	}
	var keys []string
	err := state.All(ctx, s.store, under, func(key string, _ state.Record[bucket]) error {
		keys = append(keys, key)
		return nil
	})
	if err != nil {
		return fmt.Errorf("list serials of enrolment rule %s: %w", rule, err)
	}
	return s.deleteAll(ctx, keys)
}

func (s *Service) deleteAll(ctx context.Context, keys []string) error {
	for some := range slices.Chunk(keys, state.MaxBatch) {
		b := state.NewBatch(state.StepEnrollRule)
		for _, k := range some {
			b.Delete(k)
		}
		if _, err := s.store.Commit(ctx, b); err != nil {
			return fmt.Errorf("remove serials: %w", err)
		}
	}
	return nil
}

// uploadTakes is how long an upload may take before what it left is removed.
const uploadTakes = time.Hour

// sweepSerials removes the lists that no rule names: of interrupted uploads, and of
// rules that are gone.
func (s *Service) sweepSerials(ctx context.Context) error {
	rules, err := s.Rules(ctx)
	if err != nil {
		return err
	}
	counts := map[string]bool{}
	for _, r := range rules {
		counts[r.Name+"/"+r.SerialList] = true
	}
	under := prefix + "serials/"
	var keys []string
	err = state.All(ctx, s.store, under, func(key string, r state.Record[bucket]) error {
		list := key[len(under):strings.LastIndexByte(key, '/')]
		if !counts[list] && s.now().Sub(r.Value.At) > uploadTakes {
			keys = append(keys, key)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("list serials: %w", err)
	}
	return s.deleteAll(ctx, keys)
}
