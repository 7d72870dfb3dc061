package help

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"io"

	"github.com/ggfleet/ggfleet/shared/fault"
)

// A position in files names no file: rotation renames or empties them. It is an
// offset and a digest of the bytes before it, and belongs to the file that has
// these bytes there.
type position struct {
	offset int64
	before int // bytes that sum is of
	sum    [16]byte
}

const maxBefore = 256

const (
	kindFile    = 'f'
	kindJournal = 'j'
)

func (p position) String() string {
	b := []byte{kindFile}
	b = binary.BigEndian.AppendUint64(b, uint64(p.offset)) //nolint:gosec // never negative
	b = binary.BigEndian.AppendUint16(b, uint16(p.before)) //nolint:gosec // at most maxBefore
	return base64.RawURLEncoding.EncodeToString(append(b, p.sum[:]...))
}

var errPosition = fault.Field("from", "is no position in this log; begin without one")

func parsePosition(s string) (p position, err error) {
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil || len(b) != 1+8+2+16 || b[0] != kindFile {
		return p, errPosition
	}
	at := binary.BigEndian.Uint64(b[1:])
	p.before = int(binary.BigEndian.Uint16(b[9:]))
	if at > 1<<62 || p.before > maxBefore || uint64(p.before) > at || at > 0 && p.before == 0 { //nolint:gosec // not negative
		return p, errPosition
	}
	p.offset = int64(at)
	copy(p.sum[:], b[11:])
	return p, nil
}

// positionAt is the position offset of f.
func positionAt(f io.ReaderAt, offset int64) (position, error) {
	p := position{offset: offset, before: int(min(offset, maxBefore))}
	sum, err := sumBefore(f, p)
	p.sum = sum
	return p, err
}

func sumBefore(f io.ReaderAt, p position) (out [16]byte, err error) {
	b := make([]byte, p.before)
	if _, err := f.ReadAt(b, p.offset-int64(p.before)); err != nil && !errors.Is(err, io.EOF) {
		return out, err
	}
	sum := sha256.Sum256(b)
	copy(out[:], sum[:])
	return out, nil
}

// in reports whether the position is one of f, which has size bytes.
func (p position) in(f io.ReaderAt, size int64) bool {
	if p.offset > size {
		return false
	}
	sum, err := sumBefore(f, p)
	return err == nil && bytes.Equal(sum[:], p.sum[:])
}
