package localstate

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
)

// sharingViolation is what Windows says of a file that somebody has for himself.
const sharingViolation = syscall.Errno(32)

// hold opens the file name for nobody but this process until it is closed. taken
// tells that somebody else holds it.
func hold(root *os.Root, name string) (f *os.File, taken bool, err error) {
	path, err := syscall.UTF16PtrFromString(filepath.Join(root.Name(), name))
	if err != nil {
		return nil, false, err
	}
	const nobodyElse = 0
	h, err := syscall.CreateFile(path, syscall.GENERIC_READ|syscall.GENERIC_WRITE, nobodyElse, nil, syscall.OPEN_ALWAYS, syscall.FILE_ATTRIBUTE_NORMAL, 0)
	if err != nil {
		return nil, errors.Is(err, sharingViolation), err
	}
	return os.NewFile(uintptr(h), name), false, nil
}
