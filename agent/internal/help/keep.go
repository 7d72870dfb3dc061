package help

import (
	"io"
	"os"
	"path/filepath"
	"sync"
)

// keptLog is the size at which a kept log becomes the older one.
const keptLog = 1 << 20

// KeepLog returns a writer into the file agent.log of the folder dir, with one
// older copy. A line that cannot be written is lost: a full disk stops nobody.
func KeepLog(dir string) io.WriteCloser { return &keeper{dir: dir} }

// KeptLog is what KeepLog keeps in dir.
func KeptLog(dir string) Log { return FileLog(dir, keptName) }

const keptName = "agent.log"

type keeper struct {
	dir string

	mu   sync.Mutex // guards all below
	f    *os.File
	size int64
}

func (k *keeper) Write(p []byte) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.f == nil || k.size+int64(len(p)) > keptLog {
		k.turn()
	}
	if k.f != nil {
		if _, err := k.f.Write(p); err != nil {
			_ = k.close() // it is opened anew
		}
		k.size += int64(len(p))
	}
	return len(p), nil
}

// turn opens the file, and makes a large one the older one.
func (k *keeper) turn() {
	_ = k.close()
	name := filepath.Join(k.dir, keptName)
	if info, err := os.Lstat(name); err == nil && info.Size() > keptLog/2 {
		_ = os.Rename(name, name+".1")
	}
	if os.MkdirAll(k.dir, 0o700) != nil {
		return
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return
	}
	k.f, k.size = f, 0
	if info, err := f.Stat(); err == nil {
		k.size = info.Size()
	}
}

func (k *keeper) close() error {
	if k.f == nil {
		return nil
	}
	err := k.f.Close()
	k.f = nil
	return err
}

// Close closes the file.
func (k *keeper) Close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.close()
}
