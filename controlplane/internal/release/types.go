package release

import (
	"regexp"
	"strings"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/installer/signed"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/protocol"
	"github.com/ggfleet/ggfleet/shared/recipe/semver"
)

// Bounds of a release and a rollout.
const (
	MaxFiles      = 128 // of one release
	MaxSpread     = 30 * 24 * time.Hour
	maxFailures   = 1_000_000
	maxPattern    = 256
	defaultStop   = 5
	defaultSpread = 10 * time.Minute
)

const (
	prefix        = state.Root + "release/"
	filePrefix    = prefix + "file/"
	rolloutPrefix = prefix + "rollout/"
	devicePrefix  = prefix + "device/"

	signatureSuffix = ".minisig"
)

func fileKey(version, name string) string { return filePrefix + version + "/" + name }
func rolloutKey(version string) string    { return rolloutPrefix + version }
func deviceKey(name string) string        { return devicePrefix + name }

// File is one file of a release.
type File struct {
	Name      string    `json:"name"`
	Version   string    `json:"version"`
	Digest    string    `json:"digest"` // lower-case hex SHA-256
	Size      int64     `json:"size"`
	CreatedAt time.Time `json:"createdAt"`

	Platform  string `json:"platform,omitempty"`  // of a binary that devices are offered
	Signature string `json:"signature,omitempty"` // of a signature: its text
}

// Release is a release with its rollout and what devices say of it.
type Release struct {
	Version   string
	CreatedAt time.Time
	Files     []File
	Platforms []Platform
	Rollout   Rollout
	Running   int                          // devices whose agent it is
	Updates   map[protocol.UpdateState]int // devices whose last update it was, by how that ended
}

// Platform is what there is for one platform.
type Platform struct {
	Name     string // GOOS/GOARCH
	Digest   string
	Size     int64
	KeyID    string // of the signature; empty: not signed yet, not offered
	Over     string // the signature lets it replace versions up to this one
	Verified bool   // by a key that this control plane was given
}

// State of a rollout.
type State string

// The states of a rollout.
const (
	Uploaded State = "uploaded" // offered to nobody yet
	Active   State = "active"   // offered
	Paused   State = "paused"   // offered to nobody, by an operator
	Stopped  State = "stopped"  // offered to nobody, too many failures
)

// Rollout says which devices are offered a release.
type Rollout struct {
	State       State     `json:"state"`
	Reason      string    `json:"reason,omitempty"`
	From        float64   `json:"from"`       // percent at Since
	Percentage  float64   `json:"percentage"` // percent at the end of Spread
	Since       time.Time `json:"since,omitzero"`
	Begun       time.Time `json:"begun,omitzero"` // when it was activated last
	Spread      int       `json:"spreadSeconds"`
	NamePattern string    `json:"namePattern,omitempty"` // of devices; empty: all
	MaxFailures int       `json:"maxFailures"`
	Failures    int       `json:"failures"` // since it was activated last
}

// Activation asks for a rollout.
type Activation struct {
	Percentage  float64        // of devices, over 0 to 100
	NamePattern string         // "*" and "?" stand for any; empty: all
	MaxFailures int            // devices that fail until it stops; 0: 5
	Spread      *time.Duration // until the percentage is reached; nil: 10 min
}

// Device is what one agent said of itself.
type Device struct {
	Name     string               `json:"name"`
	Role     protocol.Role        `json:"role"`
	Platform string               `json:"platform,omitempty"`
	Version  string               `json:"version"`
	Update   protocol.AgentUpdate `json:"update,omitzero"`
	At       time.Time            `json:"at"` // when it last said something new

	// Counted are the last rollouts in whose failures this device is, separated by
	// commas: no device is in one twice, whatever it says.
	Counted string `json:"counted,omitempty"`
}

var filePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+~-]{0,127}$`)

func checkVersion(version string) error {
	v, err := semver.Parse(version)
	if err != nil {
		return fault.Field("version", "%s", fault.Message(err))
	}
	if v.String() != version {
		return fault.Field("version", "is %q, want %q", version, v)
	}
	return nil
}

func checkFile(name string) error {
	if !filePattern.MatchString(name) || strings.Contains(name, "..") {
		return fault.Field("file", "%.140q cannot be the name of a file; want 1 to 128 letters, digits and . _ + ~ -, a letter or digit first", name)
	}
	return nil
}

// platformOf returns the platform that the binary of a release is for, by its
// name: ggfleet-agent_VERSION_GOOS_GOARCH, on Windows with .exe.
func platformOf(version, name string) (platform string, ok bool) {
	rest, ok := strings.CutPrefix(name, signed.Program+"_"+version+"_")
	if !ok {
		return "", false
	}
	goos, arch, ok := strings.Cut(rest, "_")
	if goos == "windows" {
		arch, ok = strings.CutSuffix(arch, ".exe")
	}
	s := signed.Statement{Version: version, Platform: goos + "/" + arch}
	if !ok || s.Check() != nil {
		return "", false
	}
	return s.Platform, true
}
