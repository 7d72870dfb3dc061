//go:build unix

package localstate

import (
	"errors"
	"os"
	"syscall"
)

// hold opens and locks the file name until it is closed. taken tells that
// somebody else holds it.
func hold(root *os.Root, name string) (f *os.File, taken bool, err error) {
	f, err = root.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, syscall.EROFS) { // what is installed is to run there all the same
		f, err = root.Open(name)
	}
	if err != nil {
		return nil, false, err
	}
	if err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Is(err, syscall.EWOULDBLOCK), errors.Join(err, f.Close())
	}
	return f, false, nil
}
