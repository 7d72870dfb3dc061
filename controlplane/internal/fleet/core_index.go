package fleet

import (
	"maps"
	"slices"
	"sync"

	"github.com/google/btree"
)

// bucket is what filters tell cores apart by.
type bucket struct {
	desired TemplateRef
	failed  bool
}

func bucketOf(c *Core) bucket {
	return bucket{desired: c.Desired, failed: c.DeploymentStatus == DeploymentFailure}
}

// coreIndex holds the names of all cores by bucket, so that a filter looks at no
// core that it leaves out. It follows the mirror of core records.
type coreIndex struct {
	mu sync.RWMutex // guards m
	m  map[bucket]*btree.BTreeG[string]
}

func (x *coreIndex) change(before, now *Core) {
	if before != nil && now != nil && bucketOf(before) == bucketOf(now) {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.m == nil {
		x.m = map[bucket]*btree.BTreeG[string]{}
	}
	if before != nil {
		b := bucketOf(before)
		if t := x.m[b]; t != nil {
			if t.Delete(before.Name); t.Len() == 0 {
				delete(x.m, b)
			}
		}
	}
	if now != nil {
		b := bucketOf(now)
		if x.m[b] == nil {
			x.m[b] = btree.NewOrderedG[string](32)
		}
		x.m[b].ReplaceOrInsert(now.Name)
	}
}

// names returns at most limit names after after that f selects, in order.
func (x *coreIndex) names(f CoreFilter, after string, limit int) (names []string, more bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	for b, t := range x.m {
		if !f.selects(b) {
			continue
		}
		n := 0
		t.AscendGreaterOrEqual(after, func(name string) bool {
			if name != after {
				names = append(names, name)
				n++
			}
			return n <= limit
		})
	}
	slices.Sort(names)
	if more = len(names) > limit; more {
		names = names[:limit]
	}
	return names, more
}

// selects reports whether the filter lets the cores of a bucket pass.
func (f CoreFilter) selects(b bucket) bool {
	if f.FailedOnly && !b.failed {
		return false
	}
	switch f.TemplateName {
	case "":
		return true
	case NoTemplate:
		return b.desired.Name == ""
	default:
		return b.desired.Name == f.TemplateName && (f.TemplateVersion == 0 || b.desired.Version == f.TemplateVersion)
	}
}

// coreChanged keeps count and index equal to the mirror.
func (s *Service) coreChanged(key string, before, now *Core) {
	s.count.change(key, before, now)
	s.index.change(before, now)
	if s.cfg.Reprovisioned != nil && before != nil && now != nil &&
		(before.CertificatePending != now.CertificatePending || !maps.Equal(before.Artifacts, now.Artifacts)) {
		s.cfg.Reprovisioned(now.Name)
	}
}
