package localstate

import (
	"bytes"
	"errors"
	"io/fs"
)

// Beside a record that is kept lies its copy, and beside one that was damaged what
// it was then.
const (
	CopySuffix    = ".copy"
	DamagedSuffix = ".damaged"
)

// WriteKept is WriteJSON of a record that the device cannot do without: a copy lies
// beside it (Kept). Where there is no room for that, an older copy stays.
func (d *Dir) WriteKept(name string, v any) error {
	if err := d.WriteJSON(name, v); err != nil {
		return err
	}
	d.copy(name)
	return nil
}

// Kept calls open, which reads name from d. When it fails, it is called again and
// gets the copy instead; when that succeeds the copy takes the place of name, and
// what was damaged stays beside it with DamagedSuffix at its end. damage is why the
// copy was needed, err why open failed with both: then nothing is changed.
func (d *Dir) Kept(name string, open func() error) (damage, err error) {
	damage = open()
	if damage == nil {
		d.copy(name)
		return nil, nil
	}
	if _, err := d.Read(name + CopySuffix); err != nil {
		return nil, damage
	}
	d.instead.Store(name, true)
	if open() != nil {
		d.instead.Delete(name)
		return nil, damage
	}
	d.mend(name)
	return damage, nil
}

// mend puts the copy in the place of name. On a disk that takes nothing the copy is
// what is read from now on.
func (d *Dir) mend(name string) {
	good, err := d.Read(name)
	if err != nil {
		return
	}
	if err := d.root.Rename(name, name+DamagedSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return
	}
	_ = d.Write(name, good)
}

// copy makes the copy of name what name is.
func (d *Dir) copy(name string) {
	now, err := d.Read(name)
	if err != nil {
		return
	}
	if kept, err := d.Read(name + CopySuffix); err != nil || !bytes.Equal(kept, now) {
		_ = d.Write(name+CopySuffix, now)
	}
}
