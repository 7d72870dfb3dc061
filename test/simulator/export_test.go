package simulator

// For the external tests of the parts that have no other door.
var (
	NormalForm = normalForm
	Satisfies  = satisfies
	ReadRecipe = readRecipe
)

// Tree is a configuration under test.
type Tree struct{ n node }

// Merge, Reset and Fill change it, Plain reads it.
func (t *Tree) Merge(m map[string]any, at int64) { t.n.merge(m, at, false) }

// Reset takes a pointer back.
func (t *Tree) Reset(pointer string, at int64) error { return t.n.reset(pointer, at) }

// Fill adds defaults.
func (t *Tree) Fill(defaults map[string]any) { t.n.fill(defaults) }

// Plain returns the values.
func (t *Tree) Plain() any { return t.n.plain() }
