package help

import (
	"context"
	"encoding/json"
	"io"
	"time"

	"github.com/ggfleet/ggfleet/shared/protocol"
)

// Scrub takes secrets out of a text.
func Scrub(s string) string { return text(s) }

// JournalOf is a journal that another program gives.
func JournalOf(program string, match ...string) Log {
	return journalLog{program: program, match: match}
}

// DecodeOrder reads an order as the agent does.
func DecodeOrder(raw []byte) (protocol.HelpAsk, error) {
	var o protocol.HelpOrder
	if err := json.Unmarshal(raw, &o); err != nil {
		return o.HelpAsk, err
	}
	return o.HelpAsk, o.Check()
}

// Do does what is asked and writes the answer to w.
func Do(ctx context.Context, d Device, a protocol.HelpAsk, w io.Writer) error {
	switch a.Kind {
	case protocol.HelpLogsTail, protocol.HelpLogsRange:
		l, err := d.Log(a.Of, a.Component)
		if err != nil {
			return err
		}
		if a.Kind == protocol.HelpLogsTail {
			_, err = l.Tail(ctx, w, a.Lines, a.Since)
		} else {
			_, err = l.Range(ctx, w, a.From, a.Length, time.Duration(a.WaitSeconds)*time.Second)
		}
		return err
	case protocol.HelpRestart:
		return d.Restart(ctx, a.Of, a.Component)
	case protocol.HelpBundle, protocol.HelpDiagnose:
	}
	return nil
}

// SetRoom sets how many bytes a bundle may hold.
func (h *Host) SetRoom(n int) { h.room = n }

// SetPatience sets how long a diagnosis may take.
func (h *Host) SetPatience(d time.Duration) { h.patience = d }
