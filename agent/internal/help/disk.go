package help

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ggfleet/ggfleet/agent/internal/inventory"
)

const (
	diskTime   = 20 * time.Second
	diskFiles  = 300_000
	diskFolder = 20 // the largest that are shown
)

// disk tells how full the file systems are and which folders are large.
func (h *Host) disk(ctx context.Context, w io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, diskTime)
	defer cancel()
	roots := []string{h.cfg.Root}
	if n := h.cfg.Nucleus(); n.Root != "" && !strings.HasPrefix(n.Root+"/", h.cfg.Root+"/") {
		roots = append(roots, n.Root)
	}
	for _, root := range roots {
		volume(w, root)
		largest(ctx, w, root)
	}
	for _, other := range []string{"/", "/var/log", "/tmp"} {
		volume(w, other)
	}
	return nil
}

func volume(w io.Writer, path string) {
	d := inventory.New("/").Read(path).Disk
	if d.Bytes == nil || d.FreeBytes == nil {
		return
	}
	fmt.Fprintf(w, "file system of %s\t%s free of %s", path, size(*d.FreeBytes), size(*d.Bytes))
	if d.InodesFree != nil && d.Inodes != nil && *d.Inodes > 0 {
		fmt.Fprintf(w, ", %d of %d inodes free", *d.InodesFree, *d.Inodes)
	}
	if d.ReadOnly != nil && *d.ReadOnly {
		fmt.Fprint(w, ", READ-ONLY")
	}
	fmt.Fprintln(w)
}

// largest adds up what lies below the folders of root, two levels deep. Links are
// not followed.
func largest(ctx context.Context, w io.Writer, root string) {
	sums, files := map[string]uint64{}, 0
	whole := true
	_ = filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil //nolint:nilerr // what cannot be read is not counted
		}
		if files++; files > diskFiles || ctx.Err() != nil {
			whole = false
			return fs.SkipAll
		}
		info, err := d.Info()
		if err != nil || !info.Mode().IsRegular() {
			return nil //nolint:nilerr // gone in this moment
		}
		rel, _ := filepath.Rel(root, filepath.Dir(p))
		for parts := strings.Split(rel, string(filepath.Separator)); ; parts = parts[:len(parts)-1] {
			if len(parts) <= 2 {
				sums[filepath.Join(parts...)] += uint64(info.Size()) //nolint:gosec // not negative
			}
			if len(parts) <= 1 {
				break
			}
		}
		return nil
	})
	folders := make([]string, 0, len(sums))
	for f := range sums {
		folders = append(folders, f)
	}
	slices.SortFunc(folders, func(a, b string) int { return cmp.Or(cmp.Compare(sums[b], sums[a]), cmp.Compare(a, b)) })
	for _, f := range folders[:min(len(folders), diskFolder)] {
		fmt.Fprintf(w, "%s\t%s\n", filepath.Join(root, f), size(sums[f]))
	}
	if !whole {
		fmt.Fprintf(w, "%s\tnot all was counted: too many files\n", root)
	}
}

func size(n uint64) string {
	switch {
	case n >= 10<<30:
		return fmt.Sprintf("%d GiB", n>>30)
	case n >= 10<<20:
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%d KiB", n>>10)
}
