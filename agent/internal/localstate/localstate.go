package localstate

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"github.com/ggfleet/ggfleet/installer/durable"
	"github.com/ggfleet/ggfleet/shared/fault"
)

const (
	agentDir  = "agent" // below the root; not a name that an installer configuration may use
	lockName  = "lock"
	maxRecord = 1 << 20 // bytes of one record
)

// Dir is the agent's folder. One process has it at a time.
type Dir struct {
	site   string
	root   *os.Root
	lock   *os.File
	around Around

	instead sync.Map // names of which the copy is read (Kept)
}

// Open makes and locks ROOT/agent, mode 0700, and removes what an interrupted
// write left in it. A second Open of the same root, by any process, fails with
// fault.Exists until the first is closed. On a disk that takes nothing the folder is
// opened as it is. around may be nil.
func Open(site string, around Around) (*Dir, error) {
	site, err := filepath.Abs(site)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(site, agentDir)
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("making the agent's folder: %w; run as a user who may write there, or name another folder with --root", err)
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	lock, err := acquire(root, site)
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	d := &Dir{site: site, root: root, lock: lock, around: around}
	if err := durable.Sweep(root, "."); err != nil && !durable.Full(err) {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

func acquire(root *os.Root, site string) (*os.File, error) {
	f, taken, err := hold(root, lockName)
	if taken {
		return nil, fault.New(fault.Exists, "another agent works in %s; stop it first, or give this one its own folder with --root", site)
	}
	if err != nil {
		return nil, fmt.Errorf("locking %s: %w", site, err)
	}
	return f, nil
}

// Look opens ROOT/agent for reading, beside an agent that may work there: nothing
// is made, locked or cleared up. fs.ErrNotExist: no agent ever was here.
func Look(site string) (*Dir, error) {
	site, err := filepath.Abs(site)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(filepath.Join(site, agentDir))
	if err != nil {
		return nil, err
	}
	return &Dir{site: site, root: root}, nil
}

// Close releases the lock.
func (d *Dir) Close() error {
	if d.lock == nil {
		return d.root.Close()
	}
	return errors.Join(d.lock.Close(), d.root.Close())
}

// Site is the absolute path of ROOT.
func (d *Dir) Site() string { return d.site }

// Root is the agent's folder itself.
func (d *Dir) Root() *os.Root { return d.root }

// Path returns the absolute path of name in the agent's folder.
func (d *Dir) Path(name string) string { return filepath.Join(d.site, agentDir, name) }

// Do carries out the step p.
func (d *Dir) Do(p Point, do func() error) error {
	if d.around == nil {
		return do()
	}
	return d.around(p, do)
}

// Write stores data at name, mode 0600, so that a power cut leaves the old or
// the new content.
func (d *Dir) Write(name string, data []byte) error {
	err := durable.WriteFile(d.root, name, data, 0o600)
	if err == nil {
		d.instead.Delete(name)
	}
	return err
}

// Read returns the content of name; fs.ErrNotExist when it was never written.
func (d *Dir) Read(name string) ([]byte, error) {
	file := name
	if _, ok := d.instead.Load(name); ok {
		file += CopySuffix
	}
	f, err := d.root.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // read only
	b, err := io.ReadAll(io.LimitReader(f, maxRecord+1))
	if err == nil && len(b) > maxRecord {
		err = fault.New(fault.TooLarge, "%s has more than %d bytes", d.Path(name), maxRecord)
	}
	return b, err
}

// Remove removes name; fs.ErrNotExist when it is not there.
func (d *Dir) Remove(name string) error { return d.root.Remove(name) }

// WriteJSON stores v at name like Write.
func (d *Dir) WriteJSON(name string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return d.Write(name, append(b, '\n'))
}

// ReadJSON fills v from name. A damaged record is an error of kind
// fault.Invalid that names the file.
func (d *Dir) ReadJSON(name string, v any) error {
	b, err := d.Read(name)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fault.New(fault.Invalid, "%s is damaged: %v", d.Path(name), err)
	}
	return nil
}
