// Command ggfleet-floor does the least work that provisioning cores can be: keys,
// certificates, archives, objects and commits of the same number and size, with
// neither API, task engine nor registry. The benchmarks of test/load divide by
// what it measures; nobody else runs it. Without --dir it only tells what a
// control plane stored for its cores, by kind of record.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// result is what the program prints.
type result struct {
	Cores          int     `json:"cores"`
	Seconds        float64 `json:"seconds"`
	Commits        int     `json:"commits"`
	RecordsPerCore float64 `json:"recordsPerCore"`
	BytesPerCore   float64 `json:"bytesPerCore"` // of records
	ConfigBytes    int     `json:"configBytes"`
	// Kinds are the records by the first two parts of their keys.
	Kinds map[string]kind `json:"kinds"`
}

// kind is what the records of one kind take.
type kind struct {
	Records int `json:"records"`
	Keys    int `json:"keys"`   // bytes
	Values  int `json:"values"` // bytes
}

func main() {
	like := flag.String("like", "", "data directory of a stopped ggfleet whose records and objects are the measure")
	dir := flag.String("dir", "", "empty directory for what is written; without it nothing is")
	cores := flag.Int("cores", 1000, "how many cores; the data directory of --like holds as many")
	workers := flag.Int("workers", 16, "cores worked on at once")
	flag.Parse()
	if err := measure(*like, *dir, *cores, *workers); err != nil {
		fmt.Fprintln(os.Stderr, "ggfleet-floor:", err)
		os.Exit(1)
	}
}

func measure(like, dir string, cores, workers int) error {
	ctx := context.Background()
	like, err := filepath.Abs(like) // the embedded S3 server changes the working directory
	if err != nil {
		return err
	}
	m, err := measureOf(ctx, like, cores)
	if err != nil {
		return fmt.Errorf("look at %s: %w", like, err)
	}
	r := result{Cores: cores, RecordsPerCore: m.records, BytesPerCore: m.bytes, ConfigBytes: len(m.config), Kinds: m.kinds}
	if dir == "" {
		return json.NewEncoder(os.Stdout).Encode(r)
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	f, err := open(ctx, dir, m)
	if err != nil {
		return err
	}
	defer f.close()
	began := time.Now()
	if r.Commits, err = f.provision(ctx, cores, workers); err != nil {
		return err
	}
	r.Seconds = time.Since(began).Seconds()
	return json.NewEncoder(os.Stdout).Encode(r)
}
