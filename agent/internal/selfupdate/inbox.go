package selfupdate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"

	"github.com/ggfleet/ggfleet/installer/durable"
	"github.com/ggfleet/ggfleet/installer/signed"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// The inbox holds a release that a technician brought: the binary, and, written
// last, its signature. The agent that runs takes it from there, so the command
// needs no lock and changes nothing by itself.
const (
	inboxDir      = "update-inbox"
	inboxFile     = inboxDir + "/" + programName
	inboxSig      = inboxFile + signatureSuffix
	signatureFile = signed.MaxSignature

	signatureSuffix = ".minisig"
)

// Brought is what Bring found.
type Brought struct {
	signed.Statement
	KeyID string
}

// Bring checks the release in file, whose signature lies beside it with
// .minisig at its end, against the keys of the agent in root, and unless dryRun
// puts it where the agent will find it. version is of the packaged agent, which
// may be older than the one that runs: then the agent refuses what is not newer.
func Bring(root, file, platform string, dryRun bool) (b Brought, err error) {
	if err := Supported(); err != nil {
		return b, err
	}
	text, err := os.ReadFile(file + signatureSuffix)
	if err != nil {
		return b, fmt.Errorf("the signature beside the release: %w", err)
	}
	sig, err := signed.ParseSignature(string(text))
	if err != nil {
		return b, err
	}
	b = Brought{sig.Statement, sig.KeyID}
	if sig.Statement.Platform != platform {
		return b, fault.New(fault.Invalid, "the release is for %s, this is %s", sig.Statement.Platform, platform)
	}
	keys, err := Keys(root)
	if err != nil {
		return b, err
	}
	if len(keys) == 0 {
		return b, fault.New(fault.Denied, noKeys)
	}
	f, err := os.Open(file)
	if err != nil {
		return b, err
	}
	defer f.Close() //nolint:errcheck // read only
	if err := plain(keys).Verify(f, sig); err != nil || dryRun {
		return b, err
	}
	return b, put(root, f, text)
}

// put copies a release into the inbox, the signature last.
func put(root string, f *os.File, sig []byte) (err error) {
	dir, err := os.OpenRoot(filepath.Join(root, "agent"))
	if err != nil {
		return fmt.Errorf("the agent's folder: %w; enrol first", err)
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if err := errors.Join(dir.RemoveAll(inboxDir), dir.Mkdir(inboxDir, 0o700)); err != nil {
		return err
	}
	out, err := dir.OpenFile(inboxFile, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		_, err = io.Copy(out, f)
		err = errors.Join(err, out.Sync(), out.Close())
	}
	if err == nil {
		err = durable.WriteFile(dir, inboxSig, sig, 0o600)
	}
	if err != nil {
		return errors.Join(err, dir.RemoveAll(inboxDir)) // a full disk gets its room back
	}
	return nil
}

// inbox returns the release that a technician brought.
func (u *Updater) inbox(ctx context.Context) (candidate, bool) {
	sig, err := u.cfg.Dir.Read(inboxSig)
	if err != nil || len(sig) > signatureFile {
		return candidate{}, false
	}
	parsed, err := signed.ParseSignature(string(sig))
	if err == nil {
		var digest string
		var size int64
		if digest, size, err = digestOf(u.cfg.Dir.Path(inboxFile)); err == nil {
			return candidate{protocol.AgentRelease{
				Version: parsed.Statement.Version, Platform: parsed.Statement.Platform, Digest: digest, Size: size, Signature: string(sig),
			}, true, u.copyInbox}, true
		}
	}
	u.log.WarnContext(ctx, "what lies in the inbox is no release", logx.Err, err)
	u.clearInbox()
	return candidate{}, false
}

func (u *Updater) copyInbox(_ context.Context, f *os.File) error {
	in, err := u.cfg.Dir.Root().Open(path.Clean(inboxFile))
	if err != nil {
		return err
	}
	defer in.Close() //nolint:errcheck // read only
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if _, err := io.Copy(f, in); err != nil {
		return err
	}
	return f.Sync()
}

func (u *Updater) clearInbox() {
	if err := u.cfg.Dir.Root().RemoveAll(inboxDir); err != nil {
		u.log.Warn("inbox is not cleared", logx.Err, err)
	}
}
