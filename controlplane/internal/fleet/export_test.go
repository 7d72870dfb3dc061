package fleet

// CheckTemplate lets tests try the check without a service.
func CheckTemplate(n NewTemplate) error { return checkTemplate(&n) }

// CoreIndex is coreIndex.
type CoreIndex struct{ x coreIndex }

// Change is coreIndex.change.
func (i *CoreIndex) Change(before, now *Core) { i.x.change(before, now) }

// Names is coreIndex.names.
func (i *CoreIndex) Names(f CoreFilter, after string, limit int) ([]string, bool) {
	return i.x.names(f, after, limit)
}

// Buckets is how many the index has.
func (i *CoreIndex) Buckets() int { return len(i.x.m) }

// Selects reports whether the filter lets the core pass.
func Selects(f CoreFilter, c *Core) bool { return f.selects(bucketOf(c)) }
