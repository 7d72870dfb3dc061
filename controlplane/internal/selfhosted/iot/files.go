package iot

import (
	"encoding/pem"
	"os"
	"path/filepath"
)

// writeDurably writes a file that a crash leaves whole or absent, readable by
// its owner only.
func writeDurably(file string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(file), ".tmp-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // gone after the rename
	if _, err = f.Write(b); err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	if err := os.Rename(f.Name(), file); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(file))
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	return d.Sync()
}

func cutPEM(b []byte) (first, rest []byte, ok bool) {
	block, rest := pem.Decode(b)
	if block == nil {
		return nil, b, false
	}
	return block.Bytes, rest, true
}
