package help

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/ggfleet/ggfleet/controlplane/internal/object"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

func (s *Service) folder(id string) string         { return s.cfg.Prefix + id + "/" }
func (s *Service) runFolder(id, run string) string { return s.folder(id) + run + "/" }
func (s *Service) partKey(id, run string, n int) string {
	return fmt.Sprintf("%s%06d", s.runFolder(id, run), n)
}

// whole reports whether the parts of a run make up size bytes.
func (s *Service) whole(ctx context.Context, id, run string, size int64) (bool, error) {
	list, err := s.cfg.Objects.List(ctx, s.runFolder(id, run), "", 0)
	if err != nil {
		return false, fmt.Errorf("list parts of help request %s: %w", id, err)
	}
	at := int64(0)
	for n, o := range list {
		if o.Key != s.partKey(id, run, n) || at != int64(n)*protocol.HelpPart {
			return false, nil
		}
		at += o.Size
	}
	return at == size, nil
}

// Content opens what the device sent. The caller closes the reader. fault.Conflict
// while the request is open; one that ended without content has none to give
// (fault.NotFound).
func (s *Service) Content(ctx context.Context, id string) (object.Reader, Request, error) {
	r, err := s.read(ctx, id)
	if err != nil {
		return nil, Request{}, err
	}
	switch v := r.Value; {
	case !v.Ended():
		return nil, v.Request, fault.New(fault.Conflict, "help request %s is %s; its content is there when it is done", v.ID, v.Status)
	case v.Status != Done:
		return nil, v.Request, fault.New(fault.NotFound, "help request %s ended as %s and has no content", v.ID, v.Status)
	}
	return &parts{s: s, ctx: ctx, id: id, run: r.Value.Run, size: r.Value.Size}, r.Value.Request, nil
}

// parts reads a content; one part is open at a time.
type parts struct {
	s       *Service
	ctx     context.Context //nolint:containedctx // of the call that the reader belongs to
	id, run string
	size    int64

	at   int64
	open object.Reader // nil: none
	rest int64         // of the open part
}

func (p *parts) Read(b []byte) (int, error) {
	if p.at >= p.size {
		return 0, io.EOF
	}
	if p.open == nil {
		n := p.at / protocol.HelpPart
		f, info, err := p.s.cfg.Objects.Open(p.ctx, p.s.partKey(p.id, p.run, int(n)))
		if err != nil {
			return 0, err
		}
		p.open, p.rest = f, info.Size-p.at%protocol.HelpPart
		if _, err := f.Seek(p.at%protocol.HelpPart, io.SeekStart); err != nil {
			return 0, err
		}
	}
	n, err := p.open.Read(b[:min(int64(len(b)), p.rest)])
	p.at += int64(n)
	p.rest -= int64(n)
	if p.rest <= 0 {
		return n, errors.Join(ended(err), p.Close())
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF // the part is shorter than it was
	}
	return n, err
}

func ended(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

func (p *parts) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += p.at
	case io.SeekEnd:
		offset += p.size
	}
	if offset < 0 {
		return 0, errors.New("seek before the beginning")
	}
	p.at = offset
	return offset, p.Close()
}

// Close closes the open part; reading may go on.
func (p *parts) Close() error {
	if p.open == nil {
		return nil
	}
	err := p.open.Close()
	p.open = nil
	return err
}

// drop removes the content of a request. What it leaves is found by the sweep.
func (s *Service) drop(ctx context.Context, id string) { s.dropUnder(ctx, id, s.folder(id)) }

func (s *Service) dropUnder(ctx context.Context, id, folder string) {
	list, err := s.cfg.Objects.List(ctx, folder, "", 0)
	for _, o := range list {
		err = errors.Join(err, s.cfg.Objects.Delete(ctx, o.Key))
	}
	if err != nil {
		s.log.WarnContext(ctx, "content of a help request is removed later", "request", id, logx.Err, err)
	}
}
