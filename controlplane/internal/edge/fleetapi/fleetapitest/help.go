package fleetapitest

import (
	"context"
	"crypto/sha256"
	"fmt"
	"strings"

	"github.com/ggfleet/ggfleet/controlplane/internal/help"
	"github.com/ggfleet/ggfleet/controlplane/internal/object"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// HelpContent is what every device sends.
const HelpContent = "one line\nand another\n"

// HelpID is the id of the first request for help, and of each one that follows.
const HelpID = "6f1c9a52-0d7e-4c1b-8a3f-000000000001"

// Help is the port of remote help. Each device does at once what it is asked.
type Help struct{ f *Fake }

// Create stores a request as done.
func (h Help) Create(_ context.Context, n help.New) (help.Request, error) {
	done, err := h.f.lock()
	defer done()
	if err != nil {
		return help.Request{}, err
	}
	if err := n.Check(); err != nil {
		return help.Request{}, err
	}
	r := help.Request{
		ID: HelpID, Device: n.Subject.Name, Role: n.Subject.Role, HelpAsk: n.HelpAsk, By: n.By, Status: help.Done, CreatedAt: Now(), UpdatedAt: Now(),
		ExpiresAt: Now(), Size: int64(len(HelpContent)), Digest: fmt.Sprintf("%x", sha256.Sum256([]byte(HelpContent))), Next: "AAAA", Lost: h.f.HelpLost, Follows: n.Follows,
	}
	if h.f.HelpRefusal != "" {
		r.Status, r.Message, r.Size = help.Refused, h.f.HelpRefusal, 0
	}
	h.f.help = &r
	h.f.LastHelp = n
	return r, nil
}

// Request returns the last one.
func (h Help) Request(_ context.Context, id string) (help.Request, error) {
	done, err := h.f.lock()
	defer done()
	if err == nil && (h.f.help == nil || h.f.help.ID != id) {
		err = fault.New(fault.NotFound, "help request %q does not exist", id)
	}
	if err != nil {
		return help.Request{}, err
	}
	return *h.f.help, nil
}

// Requests lists the last one, if it is the device's.
func (h Help) Requests(_ context.Context, device string, _ help.Page) ([]help.Request, string, error) {
	done, err := h.f.lock()
	defer done()
	if err != nil || h.f.help == nil || h.f.help.Device != device {
		return []help.Request{}, "", err
	}
	return []help.Request{*h.f.help}, "", nil
}

// Content is HelpContent.
func (h Help) Content(ctx context.Context, id string) (object.Reader, help.Request, error) {
	r, err := h.Request(ctx, id)
	return content{strings.NewReader(HelpContent)}, r, err
}

type content struct{ *strings.Reader }

func (content) Close() error { return nil }

// Delete removes the last one.
func (h Help) Delete(ctx context.Context, id string) error {
	if _, err := h.Request(ctx, id); err != nil {
		return err
	}
	done, err := h.f.lock()
	defer done()
	h.f.help = nil
	return err
}
