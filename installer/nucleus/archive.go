package nucleus

import (
	"archive/tar"
	"archive/zip"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/ggfleet/ggfleet/installer/durable"
	"github.com/ggfleet/ggfleet/shared/fault"
	sharedrun "github.com/ggfleet/ggfleet/shared/run"
)

// maxName is the longest path in an archive, in bytes.
const maxName = 512

// Limits bound what an archive may unpack to.
type Limits struct {
	Bytes   int64 // of all files together; default 2 GiB
	Entries int   // files and folders; default 50,000
}

func (l Limits) withDefaults() Limits {
	if l.Bytes <= 0 {
		l.Bytes = 2 << 30
	}
	if l.Entries <= 0 {
		l.Entries = 50_000
	}
	return l
}

// Unpack writes the archive f into dir below root, which must exist and be
// empty, once the archive's digest is verified: with another digest nothing is
// written. format is "tar.gz" or "zip". Links, devices, absolute paths, paths
// that climb out and names that come twice are refused. Every file and folder is
// synced. Errors about the archive are of kind fault.Invalid or fault.TooLarge.
func Unpack(ctx context.Context, f *os.File, format, digest string, root *os.Root, dir string, lim Limits) error {
	size, err := verify(ctx, f, digest)
	if err != nil {
		return err
	}
	_, err = unpackVerified(ctx, f, size, format, root, dir, lim)
	return err
}

// unpackVerified is Unpack of an archive with the right digest; it returns what was
// unpacked.
func unpackVerified(ctx context.Context, f *os.File, size int64, format string, root *os.Root, dir string, lim Limits) (digests, error) {
	u := &unpacker{ctx: ctx, root: root, dir: dir, left: lim.withDefaults(), made: map[string]bool{dir: true}, files: digests{}}
	var err error
	switch format {
	case "tar.gz":
		err = u.tarGz(f)
	case "zip":
		err = u.zip(f, size)
	default:
		err = fault.New(fault.Unsupported, "archive format %q is not known; want tar.gz or zip", format)
	}
	if err != nil {
		return nil, err
	}
	for d := range u.made {
		if err := durable.SyncDir(root, d); err != nil {
			return nil, err
		}
	}
	return u.files, nil
}

// Digest reads f whole and returns its SHA-256 in lower-case hex. It leaves f at
// its start.
func Digest(ctx context.Context, f *os.File) (string, error) {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return "", err
	}
	h := sha256.New()
	if _, err := io.Copy(h, reader{ctx, f}); err != nil {
		return "", fmt.Errorf("reading the archive: %w", err)
	}
	_, err := f.Seek(0, io.SeekStart)
	return hex.EncodeToString(h.Sum(nil)), err
}

// verify compares the digest of f, leaves f at its start and returns its size.
func verify(ctx context.Context, f *os.File, digest string) (int64, error) {
	got, err := Digest(ctx, f)
	if err != nil {
		return 0, err
	}
	if got != digest {
		return 0, fault.New(fault.Invalid, "the archive has digest %s, want %s; it is not what the control plane offered", got, digest)
	}
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// reader ends a long copy when its context does, and says meanwhile that it goes on.
type reader struct {
	ctx context.Context //nolint:containedctx // lives for one copy
	r   io.Reader
}

func (r reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	sharedrun.Progress(r.ctx)
	return r.r.Read(p)
}

type unpacker struct {
	ctx  context.Context //nolint:containedctx // lives for one Unpack
	root *os.Root
	dir  string
	left Limits
	made map[string]bool // folders to sync

	files digests // what was unpacked
}

func (u *unpacker) tarGz(f io.Reader) error {
	gz, err := gzip.NewReader(f)
	if err != nil {
		return fault.New(fault.Invalid, "the archive is not gzip: %v", err)
	}
	// The bound also covers what is skipped: headers and padding.
	tr := tar.NewReader(io.LimitReader(gz, u.left.Bytes+int64(u.left.Entries)*2048))
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fault.New(fault.Invalid, "the archive is damaged: %v", err)
		}
		if h.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		if h.Typeflag != tar.TypeReg && h.Typeflag != tar.TypeDir {
			return fault.New(fault.Invalid, "the archive has %q of type %q; only files and folders are allowed", h.Name, h.Typeflag)
		}
		if err := u.entry(h.Name, h.Typeflag == tar.TypeDir, h.FileInfo().Mode(), tr); err != nil {
			return err
		}
	}
}

func (u *unpacker) zip(f io.ReaderAt, size int64) error {
	zr, err := zip.NewReader(f, size)
	if err != nil {
		return fault.New(fault.Invalid, "the archive is not zip: %v", err)
	}
	for _, e := range zr.File {
		mode := e.Mode()
		if !mode.IsRegular() && !mode.IsDir() {
			return fault.New(fault.Invalid, "the archive has %q, which is neither file nor folder", e.Name)
		}
		r, err := e.Open()
		if err != nil {
			return fault.New(fault.Invalid, "the archive is damaged at %q: %v", e.Name, err)
		}
		err = u.entry(e.Name, mode.IsDir(), mode, r)
		if err := errors.Join(err, r.Close()); err != nil {
			return err
		}
	}
	return nil
}

func (u *unpacker) entry(name string, isDir bool, mode fs.FileMode, r io.Reader) error {
	if u.left.Entries--; u.left.Entries < 0 {
		return fault.New(fault.TooLarge, "the archive has more entries than the limit")
	}
	clean := strings.TrimSuffix(strings.TrimPrefix(name, "./"), "/")
	if isDir && (clean == "" || clean == ".") {
		return nil
	}
	if !local(clean) {
		return fault.New(fault.Invalid, "the archive has %q, which is not a plain relative path", name)
	}
	full := path.Join(u.dir, clean)
	if isDir {
		return u.folder(full)
	}
	if err := u.folder(path.Dir(full)); err != nil {
		return err
	}
	perm := fs.FileMode(0o644)
	if mode&0o111 != 0 {
		perm = 0o755
	}
	return u.file(full, perm, r)
}

func (u *unpacker) folder(full string) error {
	if u.made[full] {
		return nil
	}
	if err := u.folder(path.Dir(full)); err != nil {
		return err
	}
	err := u.root.Mkdir(full, 0o755)
	if errors.Is(err, fs.ErrExist) {
		return fault.New(fault.Invalid, "the archive has %q as file and as folder", full)
	}
	if err != nil {
		return fmt.Errorf("unpacking %s: %w", full, err)
	}
	u.made[full] = true
	return nil
}

func (u *unpacker) file(full string, perm fs.FileMode, r io.Reader) error {
	f, err := u.root.OpenFile(full, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if errors.Is(err, fs.ErrExist) {
		return fault.New(fault.Invalid, "the archive has %q twice", full)
	}
	if err != nil {
		return fmt.Errorf("unpacking %s: %w", full, err)
	}
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, h), io.LimitReader(reader{u.ctx, r}, u.left.Bytes+1))
	if u.left.Bytes -= n; err == nil && u.left.Bytes < 0 {
		err = fault.New(fault.TooLarge, "the archive unpacks to more bytes than the limit")
	}
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("unpacking %s: %w", full, err)
	}
	u.files[strings.TrimPrefix(full, u.dir+"/")] = hex.EncodeToString(h.Sum(nil))
	return nil
}
