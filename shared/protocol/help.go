package protocol

import (
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
)

// Paths of the agent's calls about remote help, on the device HTTPS listener
// with the agent's client certificate.
const (
	PathHelp        = "/agent/v1/help" // GET → HelpList: what waits for this device
	HelpTakePath    = "take"           // POST PathHelp/ID/take HelpTake → HelpOrder
	HelpContentPath = "content"        // PUT PathHelp/ID/content?run=RUN&part=N: at most HelpPart bytes
	HelpResultPath  = "result"         // POST PathHelp/ID/result HelpResult → {}
)

// HelpPathOf is the path of one call about the request id.
func HelpPathOf(id, call string) string { return PathHelp + "/" + id + "/" + call }

// HelpTopic is where the agent of a device is told that somebody asks something
// of it. The payload means nothing: it asks PathHelp.
func HelpTopic(s Subject) string { return s.Topic("help") }

// HelpKind is one thing that can be asked of a device. Each needs the consent of
// the device's owner.
type HelpKind string

// The kinds.
const (
	HelpLogsTail  HelpKind = "logs.tail"  // the last lines of a log
	HelpLogsRange HelpKind = "logs.range" // a log from a position on
	HelpBundle    HelpKind = "bundle"     // what support needs, in a zip, without secrets
	HelpRestart   HelpKind = "restart"    // of the nucleus or of one component
	HelpDiagnose  HelpKind = "diagnose"   // one of the named diagnostics
)

// What a log, or what is restarted, belongs to.
const (
	HelpOfAgent     = "agent"
	HelpOfNucleus   = "nucleus"
	HelpOfComponent = "component"
)

// Diagnostics returns the names of the diagnostics.
func Diagnostics() []string {
	return []string{"doctor", "network", "disk", "processes", "clock", "nucleus"}
}

// Limits of remote help.
const (
	HelpPart        = 64 << 10         // bytes of each part of a content but the last
	MaxHelpLog      = 4 << 20          // bytes of one answer of logs
	MaxHelpLines    = 10_000           // of one logs.tail
	MaxHelpContent  = 64 << 20         // bytes of any content
	MaxHelpMessage  = 2 << 10          // bytes of a result's message
	MaxHelpPosition = 256              // bytes of a position
	MaxHelpWait     = 25               // seconds that a logs.range waits for something new
	MaxHelpOpen     = 4                // requests that wait for one device or are under way there
	HelpPatience    = 30 * time.Minute // within which a device has done what it took
)

// HelpAsk is what is asked of a device.
type HelpAsk struct {
	Kind HelpKind `json:"kind"`

	Of        string `json:"of,omitempty"`        // logs, restart: HelpOf…
	Component string `json:"component,omitempty"` // with HelpOfComponent: its name

	Lines int       `json:"lines,omitempty"` // logs.tail: 1 to MaxHelpLines
	Since time.Time `json:"since,omitzero"`  // logs.tail: no line before

	From        string `json:"from,omitempty"`        // logs.range: HelpResult.Next of an answer before; empty: from the oldest byte on
	Length      int    `json:"length,omitempty"`      // logs.range: bytes of the log, 1 to MaxHelpLog
	WaitSeconds int    `json:"waitSeconds,omitempty"` // logs.range: how long to wait while there is nothing new, up to MaxHelpWait

	Diagnostic string `json:"diagnostic,omitempty"` // diagnose: one of Diagnostics
}

// HelpName reports whether s can be the name of a component in a request. It
// holds no character that means something to a path, a unit name or a glob.
func HelpName(s string) bool {
	return names.CheckComponent(s) == nil && !strings.ContainsRune("._-", rune(s[0]))
}

var helpPosition = regexp.MustCompile(`^[A-Za-z0-9_-]*$`)

// Check returns fault.Invalid with the member that is wrong. Members that do not
// belong to the kind are wrong too.
func (a HelpAsk) Check() error {
	rest := a
	rest.Kind = ""
	err := error(nil)
	switch a.Kind {
	case HelpLogsTail:
		rest.Of, rest.Component, rest.Lines, rest.Since = "", "", 0, time.Time{}
		if err = a.checkOf(HelpOfAgent, HelpOfNucleus, HelpOfComponent); err == nil {
			err = within("lines", a.Lines, 1, MaxHelpLines)
		}
	case HelpLogsRange:
		rest.Of, rest.Component, rest.From, rest.Length, rest.WaitSeconds = "", "", "", 0, 0
		if err = a.checkOf(HelpOfAgent, HelpOfNucleus, HelpOfComponent); err == nil {
			err = within("length", a.Length, 1, MaxHelpLog)
		}
		if err == nil {
			err = within("waitSeconds", a.WaitSeconds, 0, MaxHelpWait)
		}
		if err == nil && (len(a.From) > MaxHelpPosition || !helpPosition.MatchString(a.From)) {
			err = fault.Field("from", "is no position that an answer before had as next")
		}
	case HelpRestart:
		rest.Of, rest.Component = "", ""
		err = a.checkOf(HelpOfNucleus, HelpOfComponent)
	case HelpDiagnose:
		rest.Diagnostic = ""
		if !slices.Contains(Diagnostics(), a.Diagnostic) {
			err = fault.Field("diagnostic", "%q is none of %s", fault.Brief(a.Diagnostic), strings.Join(Diagnostics(), ", "))
		}
	case HelpBundle:
	default:
		return fault.Field("kind", "%q is nothing that can be asked of a device", fault.Brief(string(a.Kind)))
	}
	if err == nil && rest != (HelpAsk{}) {
		err = fault.New(fault.Invalid, "a member of the request does not belong to the kind %s", a.Kind)
	}
	return err
}

func (a HelpAsk) checkOf(allowed ...string) error {
	switch {
	case !slices.Contains(allowed, a.Of):
		return fault.Field("of", "%q is none of %s", fault.Brief(a.Of), strings.Join(allowed, ", "))
	case a.Of != HelpOfComponent && a.Component != "":
		return fault.Field("component", "belongs to \"of\": %q only", HelpOfComponent)
	case a.Of == HelpOfComponent && !HelpName(a.Component):
		return fault.Field("component", "%q is no name of a component", fault.Brief(a.Component))
	}
	return nil
}

func within(field string, n, low, high int) error {
	if n < low || n > high {
		return fault.Field(field, "is %d, want %d to %d", n, low, high)
	}
	return nil
}

// HelpList is what waits for a device, or was taken by it and is not ended, the
// oldest first.
type HelpList struct {
	Requests []HelpOffer `json:"requests"`
}

// HelpOffer is one request.
type HelpOffer struct {
	ID string `json:"requestId"`
}

// HelpTake takes a request for one run. The same run may take it again, so that
// a lost answer costs nothing. Another run may take one whose repetition does no
// harm; a restart is over when another run asks for it.
type HelpTake struct {
	Run string `json:"run"` // UUID made by the agent
}

// HelpOrder is what to do.
type HelpOrder struct {
	ID string `json:"requestId"`
	HelpAsk
}

// HelpOutcome is how a request ended.
type HelpOutcome string

// The outcomes that a device reports.
const (
	HelpDone    HelpOutcome = "done"
	HelpRefused HelpOutcome = "refused" // the owner of the device does not allow it
	HelpFailed  HelpOutcome = "failed"
)

// HelpResult is how a run ended. Size, Digest, Next and Lost are of what was
// sent and count only with HelpDone.
type HelpResult struct {
	Run     string      `json:"run"`
	Outcome HelpOutcome `json:"outcome"`
	Message string      `json:"message,omitempty"` // at most MaxHelpMessage bytes

	Size   int64  `json:"size,omitempty"`   // bytes of the content
	Digest string `json:"digest,omitempty"` // lower-case hex SHA-256 of the content
	Next   string `json:"next,omitempty"`   // logs: the position after what was sent
	Lost   bool   `json:"lost,omitempty"`   // logs: between the position asked for and what was sent something is gone
	More   bool   `json:"more,omitempty"`   // logs: there was more than was sent
}
