package reconcile

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/ggfleet/ggfleet/agent/internal/localstate"
	"github.com/ggfleet/ggfleet/installer/nucleus"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
)

// Names in the agent's folder.
const (
	RecordName   = "install.json"
	SettingsName = "nucleus-settings.json"
	damagedName  = "install.json.damaged"
	downloads    = "downloads"
)

// Installed is a version with what is needed to run it again.
type Installed struct {
	Name    string         `json:"name"`
	Version string         `json:"version"`
	Digest  string         `json:"digest"`
	Layout  nucleus.Layout `json:"layout,omitempty"`
}

func installed(v nucleus.Version, layout nucleus.Layout) Installed {
	return Installed{Name: v.Name, Version: v.Version, Digest: v.Digest, Layout: layout}
}

func (i Installed) id() nucleus.Version {
	return nucleus.Version{Name: i.Name, Version: i.Version, Digest: i.Digest}
}

// Record says what is installed. With a Trial, the device may be switched to
// either; the next pass carries the trial to its end.
type Record struct {
	Current   *Installed `json:"current,omitempty"`
	Trial     *Installed `json:"trial,omitempty"`
	Preparing *Installed `json:"preparing,omitempty"` // its plan is being carried out; what is found of it on the device is no nucleus to adopt
	Previous  *Installed `json:"previous,omitempty"`  // its files stay until the next installation, so that it can be gone back to

	// Adopted is the nucleus that was on the device before the agent. It is what
	// runs while there is no Current. Its configuration and identity are its own and
	// stay so for the versions that take its place.
	Adopted *nucleus.Found `json:"adopted,omitempty"`

	// Settling: the current version has passed the health gate, but has not been up
	// long enough to be trusted; a crash loop makes the agent go back.
	Settling bool `json:"settling,omitempty"`

	Rejected  string     `json:"rejected,omitempty"` // digest that failed; not tried again while it is the one offered
	Rejection *Rejection `json:"rejection,omitempty"`
}

// Rejection is how the last trial failed.
type Rejection struct {
	Version string `json:"version"`
	Why     string `json:"why"`
}

// before is what ran before Current did: the previous version or, when both are
// nil, nothing. adopted tells that it was the adopted nucleus.
func (r Record) before() (old *Installed, adopted bool) {
	return r.Previous, r.Previous == nil && r.Adopted != nil && r.Current != nil
}

// ReadRecord reads the record of the agent in agentDir; the zero value when there
// is none.
func ReadRecord(agentDir string) (Record, error) {
	var r Record
	b, err := os.ReadFile(filepath.Join(agentDir, RecordName))
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	return r, err
}

// HasNucleus reports whether there is a nucleus for the agent in root to run.
func HasNucleus(root string) bool {
	r, err := ReadRecord(filepath.Join(root, "agent"))
	if err == nil && (r.Current != nil || r.Trial != nil || r.Adopted != nil) {
		return true
	}
	_, err = os.Lstat(filepath.Join(root, "current")) // its record was lost
	return err == nil
}

// NobodysCore is the core of an agent that does not know its own: it runs what it
// has, and takes over nothing that it finds.
const NobodysCore = "?"

// record reads what is installed. A record that cannot be read is put aside: what
// is on the device is then found anew.
func (l *Loop) record() (Record, error) {
	var r Record
	err := l.cfg.Dir.ReadJSON(RecordName, &r)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Record{}, nil
	case errors.Is(err, fault.Invalid), errors.Is(err, fault.TooLarge):
		l.log.Error("record of the installed nucleus is damaged and put aside", logx.Err, err)
		return Record{}, l.cfg.Dir.Root().Rename(RecordName, damagedName)
	}
	return r, err
}

func (l *Loop) store(p localstate.Point, r Record) error {
	return l.cfg.Dir.Do(p, func() error { return l.cfg.Dir.WriteJSON(RecordName, r) })
}

// Settings say how the nucleus is installed on this device. They come from whoever
// set it up, not from the control plane.
type Settings struct {
	// Root is the root path of a classic nucleus. Default /greengrass/v2.
	Root string `json:"root,omitempty"`

	Classic nucleus.ClassicOptions `json:"classic"`
	Lite    nucleus.LiteOptions    `json:"lite"`
}

// DefaultClassicRoot is where a classic nucleus lives unless told otherwise.
const DefaultClassicRoot = "/greengrass/v2"

// DefaultLiteRoot is where nucleus lite keeps its state.
const DefaultLiteRoot = "/var/lib/greengrass"

// ReadSettings reads the settings in the folder of an agent, or their copy when they
// are damaged. Without any they are the defaults.
func ReadSettings(agentDir string) (Settings, error) {
	read := func(name string) (Settings, error) {
		b, err := os.ReadFile(filepath.Join(agentDir, name))
		return parseSettings(filepath.Join(agentDir, name), b, err)
	}
	s, err := read(SettingsName)
	if errors.Is(err, fault.Invalid) || errors.Is(err, fs.ErrNotExist) {
		if s, err := read(SettingsName + localstate.CopySuffix); err == nil {
			return s, nil
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return Settings{Root: DefaultClassicRoot}, nil
	}
	return s, err
}

// OpenSettings is ReadSettings for the agent at its start: what is damaged is taken
// from the copy (localstate.Dir.Kept), and damage then says what was wrong.
func OpenSettings(d *localstate.Dir) (s Settings, damage, err error) {
	damage, err = d.Kept(SettingsName, func() error {
		b, err := d.Read(SettingsName)
		s, err = parseSettings(d.Path(SettingsName), b, err)
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return Settings{Root: DefaultClassicRoot}, nil, nil
	}
	return s, damage, err
}

func parseSettings(file string, b []byte, err error) (Settings, error) {
	s := Settings{Root: DefaultClassicRoot}
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return Settings{}, fault.New(fault.Invalid, "%s is damaged: %v; write it anew with 'ggfleet-agent nucleus set'", file, err)
	}
	return s, s.Check()
}

// Check returns a fault.Invalid error that names the member that is wrong.
func (s *Settings) Check() error {
	if s.Root == "" {
		s.Root = DefaultClassicRoot
	}
	if !filepath.IsAbs(s.Root) || filepath.Clean(s.Root) != s.Root || s.Root == "/" {
		return fault.Field("root", "%q is not the absolute path of a folder", s.Root)
	}
	return nil
}
