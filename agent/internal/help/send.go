package help

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"

	"github.com/ggfleet/ggfleet/agent/internal/localstate"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// errRefused ends what the owner does not allow, or not any more.
var errRefused = errors.New("the owner of the device does not allow this")

// sending is a content on its way: whole parts go as soon as they are full, and
// nothing is kept but the part that is being filled.
type sending struct {
	ctx  context.Context //nolint:containedctx // of the request that the writer belongs to
	r    *Runner
	id   string
	run  string
	may  func() bool
	buf  []byte
	part int
	size int64
	sum  hash.Hash
}

func (r *Runner) sending(ctx context.Context, id, run string, may func() bool) *sending {
	return &sending{ctx: ctx, r: r, id: id, run: run, may: may, sum: sha256.New()}
}

func (s *sending) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		if s.buf == nil {
			s.buf = make([]byte, 0, protocol.HelpPart)
		}
		k := min(len(p), protocol.HelpPart-len(s.buf))
		s.buf, p = append(s.buf, p[:k]...), p[k:]
		if len(s.buf) == protocol.HelpPart {
			if err := s.flush(); err != nil {
				return 0, err
			}
		}
	}
	return n, nil
}

// flush sends the part that is being filled, as often as it takes. A part is
// never sent after the owner took the consent back.
func (s *sending) flush() error {
	if len(s.buf) == 0 {
		return nil
	}
	err := s.r.persist(s.ctx, "sending", func() error {
		if !s.may() {
			return errRefused
		}
		return s.r.cfg.Dir.Do(localstate.HelpPart, func() error {
			return s.r.cfg.Cloud.SendHelp(s.ctx, s.id, s.run, s.part, s.buf)
		})
	})
	if errors.Is(err, fault.Conflict) || errors.Is(err, fault.NotFound) {
		return fmt.Errorf("%w: %w", errOver, err)
	}
	if err != nil {
		return err
	}
	s.size += int64(len(s.buf))
	s.sum.Write(s.buf)
	s.part++
	s.buf = s.buf[:0]
	return nil
}

// end sends what is left and describes the whole in result.
func (s *sending) end(result *protocol.HelpResult) error {
	if err := s.flush(); err != nil {
		return err
	}
	if s.size > 0 {
		result.Size, result.Digest = s.size, hex.EncodeToString(s.sum.Sum(nil))
	}
	return nil
}
