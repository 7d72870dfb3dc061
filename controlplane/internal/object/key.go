package object

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// MaxKey is the longest key in bytes, S3's own limit.
const MaxKey = 1024

// maxSegment is the longest part of a key between two slashes: the embedded
// store keeps objects as files, and a file name has at most 255 bytes.
const maxSegment = 255

// CheckKey returns fault.Invalid unless every Store can keep an object under
// key: UTF-8 without control characters, no empty, "." or ".." part, no slash
// at either end, not in the area that the embedded store uses itself. A store
// may also refuse a key that is a prefix of another one up to a slash ("a"
// beside "a/b"); keys are made by us, so layouts avoid it.
func CheckKey(key string) error {
	switch {
	case key == "":
		return fault.New(fault.Invalid, "object key is empty")
	case len(key) > MaxKey:
		return fault.New(fault.Invalid, "object key has %d bytes, the limit is %d", len(key), MaxKey)
	case !utf8.ValidString(key) || strings.ContainsFunc(key, func(r rune) bool { return r < 0x20 || r == 0x7f || r == '\\' }):
		return fault.New(fault.Invalid, "object key %q holds a backslash, a control character or bytes that are not UTF-8", key)
	}
	for i, part := range strings.Split(key, "/") {
		switch {
		case part == "" || part == "." || part == "..":
			return fault.New(fault.Invalid, "object key %q has the part %q; leave out empty, \".\" and \"..\" parts", key, part)
		case len(part) > maxSegment:
			return fault.New(fault.Invalid, "object key %q has a part of %d bytes, the limit is %d", key, len(part), maxSegment)
		case i == 0 && part == ".sgwtmp":
			return fault.New(fault.Invalid, "object key %q begins with a reserved name", key)
		}
	}
	return nil
}

// MaxSize is the largest object in bytes (5 GiB, S3's limit for one request).
const MaxSize = 5 << 30

// CheckPut checks the arguments that every Store's Put checks: a step of the
// table, a key that CheckKey accepts, a size from 0 to MaxSize (fault.TooLarge
// above it).
func CheckPut(step state.Step, key string, size int64) error {
	if !step.Known() {
		return fmt.Errorf("put object %s: step %q is not in the table of steps", key, step)
	}
	if err := CheckKey(key); err != nil {
		return err
	}
	if size < 0 {
		return fmt.Errorf("put object %s: size %d is not known", key, size)
	}
	if size > MaxSize {
		return fault.New(fault.TooLarge, "object %s has %d bytes, the limit is %d", key, size, int64(MaxSize))
	}
	return nil
}
