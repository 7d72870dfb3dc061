package main

import (
	"archive/tar"
	"archive/zip"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// sumsName is the file of digests, in the form of sha256sum.
const sumsName = "SHA256SUMS"

// file is one in an archive.
type file struct {
	name    string
	mode    fs.FileMode
	content []byte
}

func writeTo(name string, write func(io.Writer) error) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}

// tar returns what writes files as .tar.gz.
func (s settings) tar(files []file) func(io.Writer) error {
	return func(w io.Writer) error {
		z, err := gzip.NewWriterLevel(w, gzip.BestCompression)
		if err != nil {
			return err
		}
		t := tar.NewWriter(z)
		for _, f := range files {
			h := &tar.Header{Name: f.name, Mode: int64(f.mode), Size: int64(len(f.content)), ModTime: s.time, Format: tar.FormatUSTAR}
			if err := t.WriteHeader(h); err != nil {
				return err
			}
			if _, err := t.Write(f.content); err != nil {
				return err
			}
		}
		return errors.Join(t.Close(), z.Close())
	}
}

// zip returns what writes files as .zip.
func (s settings) zip(files []file) func(io.Writer) error {
	return func(w io.Writer) error {
		z := zip.NewWriter(w)
		for _, f := range files {
			h := &zip.FileHeader{Name: f.name, Method: zip.Deflate, Modified: s.time}
			h.SetMode(f.mode)
			e, err := z.CreateHeader(h)
			if err != nil {
				return err
			}
			if _, err := e.Write(f.content); err != nil {
				return err
			}
		}
		return z.Close()
	}
}

// writeSums writes the digests of every file in dir.
func writeSums(dir string) error {
	entries, err := os.ReadDir(dir) // in order of their names
	if err != nil {
		return err
	}
	var sums strings.Builder
	for _, e := range entries {
		f, err := os.Open(filepath.Join(dir, e.Name()))
		if err != nil {
			return err
		}
		h := sha256.New()
		_, err = io.Copy(h, f)
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
		fmt.Fprintf(&sums, "%x  %s\n", h.Sum(nil), e.Name())
	}
	return os.WriteFile(filepath.Join(dir, sumsName), []byte(sums.String()), 0o644) //nolint:gosec // everybody may read it
}
