package task

import (
	"encoding/json"
	"fmt"
	"math"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
)

const (
	root       = state.Root + "task/"
	makingRoot = root + "making/"
	liveRoot   = root + "live/"
	openRoot   = liveRoot + "open/"
	claimRoot  = liveRoot + "claim/"
)

// expandUnit stands for "find the items" where the number of a batch stands.
const expandUnit = -1

func recKey(id string) string         { return root + "rec/" + id }
func stateKey(kind, id string) string { return stateRoot(kind) + id }
func stateRoot(kind string) string    { return root + "state/" + kind + "/" }
func makingKey(id string) string      { return makingRoot + id }
func openKey(id string) string        { return openRoot + id }
func idemKey(kind, key string) string { return root + "idem/" + kind + "/" + url.PathEscape(key) }

func batchRoot(id string) string { return root + "batch/" + id + "/" }
func itemRoot(id string) string  { return root + "item/" + id + "/" }
func unitRoot(id string) string  { return root + "unit/" + id + "/" }

func batchKey(id string, n int) string  { return batchRoot(id) + fmt.Sprintf("%06d", n) }
func itemKey(id string, seq int) string { return itemRoot(id) + fmt.Sprintf("%08d", seq) }
func unitKey(id string, n int) string   { return unitRoot(id) + unitName(n) }
func claimKey(id string, n int) string  { return claimRoot + id + "/" + unitName(n) }

// nameRoot is the prefix of the index "which tasks name this item".
func nameRoot(kind, name string) string {
	return root + "name/" + kind + "/" + url.PathEscape(name) + "/"
}

// nameKey puts newer tasks first.
func nameKey(t Task, name string) string {
	return nameRoot(t.Kind, name) + fmt.Sprintf("%016x/", math.MaxInt64-t.CreatedAt.UnixMilli()) + t.ID
}

func unitName(n int) string {
	if n == expandUnit {
		return "expand"
	}
	return fmt.Sprintf("%06d", n)
}

// parseClaim is the reverse of claimKey.
func parseClaim(key string) (id string, n int, ok bool) {
	id, unit, found := strings.Cut(strings.TrimPrefix(key, claimRoot), "/")
	if !found {
		return "", 0, false
	}
	if unit == "expand" {
		return id, expandUnit, true
	}
	n, err := strconv.Atoi(unit)
	return id, n, err == nil
}

// lastPart returns what follows the last slash of key.
func lastPart(key string) string { return key[strings.LastIndexByte(key, '/')+1:] }

type taskRecord struct {
	ID        string          `json:"id"`
	Kind      string          `json:"kind"`
	Spec      json.RawMessage `json:"spec,omitempty"`
	CreatedAt time.Time       `json:"createdAt"`
	Blob      int             `json:"blob,omitempty"` // bytes
	Idem      string          `json:"idem,omitempty"` // key of the idempotency record
}

type stateRecord struct {
	Status          Status     `json:"status"`
	StatusMessage   string     `json:"statusMessage,omitempty"`
	UpdatedAt       *time.Time `json:"updatedAt,omitempty"`
	Items           int        `json:"items"`
	Succeeded       int        `json:"succeeded"`
	Failed          int        `json:"failed"`
	BatchSize       int        `json:"batchSize"`
	BatchesTotal    *int       `json:"batchesTotal,omitempty"`
	BatchesComplete int        `json:"batchesComplete"`
	Canceled        string     `json:"canceled,omitempty"` // the reason
	Ended           bool       `json:"ended,omitempty"`
}

type batchRecord struct {
	First     int       `json:"first"` // sequence number of the first item
	CreatedAt time.Time `json:"createdAt"`
	Items     []input   `json:"items"`
}

type input struct {
	Name string          `json:"name"`
	Spec json.RawMessage `json:"spec,omitempty"`
}

type unitRecord struct {
	StartedAt time.Time  `json:"startedAt"`
	EndedAt   *time.Time `json:"endedAt,omitempty"`
	Succeeded int        `json:"succeeded"`
	Failed    int        `json:"failed"`
}

type itemRecord struct {
	Status  Status          `json:"status"`
	Message string          `json:"message,omitempty"`
	Data    json.RawMessage `json:"data,omitempty"`
	EndedAt time.Time       `json:"endedAt"`
}

type openRecord struct {
	Kind      string `json:"kind"`
	BatchSize int    `json:"batchSize"`
	Batches   *int   `json:"batches,omitempty"`  // absent until the items are known
	Canceled  string `json:"canceled,omitempty"` // the reason
}

type claimRecord struct {
	Worker string `json:"worker"`
	Lease  int64  `json:"lease"`
}

type makingRecord struct {
	Kind    string    `json:"kind"`
	Since   time.Time `json:"since"`             // createdAt of the task
	Removed bool      `json:"removed,omitempty"` // a sweep is at work: the create must not go on
}

type idemRecord struct {
	ID   string `json:"id"`
	Hash string `json:"hash"`
}

func taskOf(rec taskRecord, st stateRecord) Task {
	return Task{
		ID: rec.ID, Kind: rec.Kind, Spec: rec.Spec, CreatedAt: rec.CreatedAt,
		Status: st.Status, StatusMessage: st.StatusMessage, UpdatedAt: st.UpdatedAt,
		Items: st.Items, Succeeded: st.Succeeded, Failed: st.Failed,
		BatchesTotal: st.BatchesTotal, BatchesComplete: st.BatchesComplete,
		batchSize: st.BatchSize, ended: st.Ended,
	}
}
