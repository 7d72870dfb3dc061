package help

import (
	"context"
	"io"

	"github.com/ggfleet/ggfleet/shared/protocol"
)

// Cloud is the control plane as this package needs it. fault.Conflict and
// fault.NotFound say that a request is over.
type Cloud interface {
	Help(ctx context.Context) (protocol.HelpList, error)
	TakeHelp(ctx context.Context, id string, t protocol.HelpTake) (protocol.HelpOrder, error)
	SendHelp(ctx context.Context, id, run string, part int, content []byte) error
	ReportHelp(ctx context.Context, id string, r protocol.HelpResult) error
}

// Device is what can be asked of it. An error of kind fault.Unsupported or
// fault.NotFound says why it cannot be done here; its text goes to who asked.
type Device interface {
	// Log finds a log: of is one of protocol.HelpOf…, component a name that
	// protocol.HelpAsk.Check let pass.
	Log(of, component string) (Log, error)
	// Bundle writes a support bundle of at most protocol.MaxHelpContent bytes.
	Bundle(ctx context.Context, w io.Writer) error
	// Restart restarts the nucleus, and returns when it works again, or a component.
	Restart(ctx context.Context, of, component string) error
	// Diagnose writes what a named diagnostic finds.
	Diagnose(ctx context.Context, name string, w io.Writer) error
}
