package release

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/installer/signed"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// Put stores a file of a release. The same name again must have the same bytes,
// else it is fault.Exists; a signature may be replaced. The signature of a
// binary, NAME.minisig beside NAME, must be one for this version and platform,
// and with keys given, a true one: whichever of the two comes second is refused.
func (s *Service) Put(ctx context.Context, version, name string, r io.Reader) (File, error) {
	if err := errors.Join(checkVersion(version), checkFile(name)); err != nil {
		return File{}, err
	}
	f, err := os.CreateTemp("", "ggfleet-release-*")
	if err != nil {
		return File{}, fmt.Errorf("spool file: %w", err)
	}
	defer func() { _ = f.Close(); _ = os.Remove(f.Name()) }()
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, h), io.LimitReader(r, protocol.MaxReleaseFile+1))
	if err != nil {
		return File{}, fmt.Errorf("spool file: %w", err)
	}
	if n == 0 || n > protocol.MaxReleaseFile {
		return File{}, fault.New(fault.TooLarge, "the file has %d bytes or more, want 1 to %d", n, int64(protocol.MaxReleaseFile))
	}
	file := File{Name: name, Version: version, Digest: hex.EncodeToString(h.Sum(nil)), Size: n, CreatedAt: s.cfg.Now().UTC()}
	file.Platform, _ = platformOf(version, name)
	if err := s.check(ctx, &file, f); err != nil {
		return File{}, err
	}
	old, err := state.ReadOr[File](ctx, s.cfg.Store, fileKey(version, name))
	switch {
	case err != nil:
		return File{}, err
	case old.Rev != 0 && old.Value.Digest == file.Digest:
		return old.Value, nil
	case old.Rev != 0 && file.Signature == "":
		return File{}, fault.New(fault.Exists, "file %s of release %s exists with other content; give what is new another version", name, version)
	}
	if err := s.room(ctx, version); err != nil {
		return File{}, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return File{}, fmt.Errorf("spool file: %w", err)
	}
	if err := s.cfg.Objects.Put(ctx, state.PutRelease, s.objectKey(version, name), f, n, "application/octet-stream"); err != nil {
		return File{}, fmt.Errorf("store file %s of release %s: %w", name, version, err)
	}
	b := state.NewBatch(state.StepRelease).If(fileKey(version, name), old.Rev).Put(fileKey(version, name), file)
	if _, err := s.cfg.Store.Commit(ctx, b); err != nil {
		return File{}, fmt.Errorf("store file %s of release %s: %w", name, version, err)
	}
	return file, nil
}

func (s *Service) room(ctx context.Context, version string) error {
	page, err := s.cfg.Store.List(ctx, filePrefix+version+"/", "", MaxFiles)
	if err == nil && len(page.Entries) >= MaxFiles {
		err = fault.New(fault.TooLarge, "release %s has %d files already", version, MaxFiles)
	}
	return err
}

// check reads signatures, and compares them with what they are of.
func (s *Service) check(ctx context.Context, file *File, content *os.File) error {
	if of, ok := strings.CutSuffix(file.Name, signatureSuffix); ok {
		platform, binary := platformOf(file.Version, of)
		if !binary {
			return nil // of something else: a file like others
		}
		text := make([]byte, min(file.Size, signed.MaxSignature+1))
		if _, err := content.ReadAt(text, 0); err != nil {
			return fmt.Errorf("spool file: %w", err)
		}
		sig, err := signed.ParseSignature(string(text))
		if err != nil {
			return err
		}
		if st := sig.Statement; st.Version != file.Version || st.Platform != platform {
			return fault.New(fault.Invalid, "the signature is of %s, the file is %s %s for %s", st, signed.Program, file.Version, platform)
		}
		file.Signature = string(text)
		r, _, err := s.cfg.Objects.Open(ctx, s.objectKey(file.Version, of))
		if errors.Is(err, fault.NotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		defer r.Close() //nolint:errcheck // read only
		return s.verify(sig, r)
	}
	if file.Platform == "" {
		return nil
	}
	old, err := state.ReadOr[File](ctx, s.cfg.Store, fileKey(file.Version, file.Name+signatureSuffix))
	if err != nil || old.Rev == 0 {
		return err
	}
	sig, err := signed.ParseSignature(old.Value.Signature)
	if err != nil {
		return err
	}
	if _, err := content.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("spool file: %w", err)
	}
	return s.verify(sig, content)
}

// verify returns fault.Invalid when a key that is given here made no such
// signature.
func (s *Service) verify(sig signed.Signature, r io.Reader) error {
	if len(s.cfg.Keys) == 0 {
		return nil
	}
	if err := s.cfg.Keys.Verify(r, sig); errors.Is(err, fault.Denied) {
		return fault.New(fault.Invalid, "%s", fault.Message(err))
	} else if err != nil {
		return err
	}
	return nil
}

// Remove takes a release away, unless it is offered.
func (s *Service) Remove(ctx context.Context, version string) error {
	if err := checkVersion(version); err != nil {
		return err
	}
	r, err := state.ReadOr[Rollout](ctx, s.cfg.Store, rolloutKey(version))
	if err != nil {
		return err
	}
	if r.Value.State == Active {
		return fault.New(fault.Conflict, "release %s is offered to devices; pause it first", version)
	}
	// Its records go first: an object without a record is not offered, and goes with
	// the next attempt.
	b := state.NewBatch(state.StepRelease)
	err = state.All(ctx, s.cfg.Store, filePrefix+version+"/", func(key string, f state.Record[File]) error {
		b.If(key, f.Rev).Delete(key)
		return nil
	})
	if err != nil {
		return err
	}
	b.If(rolloutKey(version), r.Rev) // one that is activated in this moment stays
	if r.Rev != 0 {
		b.Delete(rolloutKey(version))
	}
	if len(b.Ops()) > 0 {
		if err := s.commitAll(ctx, b); err != nil {
			return fmt.Errorf("remove release %s: %w", version, err)
		}
	}
	list, err := s.cfg.Objects.List(ctx, s.objectKey(version, ""), "", 0)
	for _, o := range list {
		err = errors.Join(err, s.cfg.Objects.Delete(ctx, o.Key))
	}
	return err
}

// commitAll commits b, which is at most the 2·MaxFiles+2 operations of one
// release, in parts that a store takes.
func (s *Service) commitAll(ctx context.Context, b *state.Batch) error {
	const part = 60
	ops := b.Ops()
	conds := map[string]state.Rev{}
	for _, c := range b.Conds() {
		conds[c.Key] = c.Rev
	}
	for len(ops) > 0 {
		p := state.NewBatch(state.StepRelease)
		for _, op := range ops[:min(part, len(ops))] {
			p.If(op.Key, conds[op.Key]).Delete(op.Key)
		}
		if _, err := s.cfg.Store.Commit(ctx, p); err != nil {
			return err
		}
		ops = ops[min(part, len(ops)):]
	}
	return nil
}
