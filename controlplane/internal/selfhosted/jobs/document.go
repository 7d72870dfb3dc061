package jobs

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"sync"

	"github.com/ggfleet/ggfleet/shared/protocol"
)

// maxDocuments is how many documents are kept; each has at most 31 KB.
const maxDocuments = 64

// documents keeps the documents of jobs that devices asked for last, ready but for
// the stamp: the document of a job never changes.
type documents struct {
	mu sync.Mutex // guards of
	of map[string]template
}

// template is a document around its creationTimestamp.
type template struct{ head, tail []byte }

// with returns the document with the stamp.
func (t template) with(stamp int64) json.RawMessage {
	out := make([]byte, 0, len(t.head)+len(t.tail)+20)
	out = strconv.AppendInt(append(out, t.head...), stamp, 10)
	return append(out, t.tail...)
}

// document returns the document of the job as it goes to devices with stamp.
func (s *Service) document(ctx context.Context, job string, stamp int64) (json.RawMessage, error) {
	d := &s.documents
	d.mu.Lock()
	t, known := d.of[job]
	d.mu.Unlock()
	if known {
		return t.with(stamp), nil
	}
	j, err := s.Job(ctx, job)
	if err != nil {
		return nil, err
	}
	if t, err = split(j.Value.Document); err != nil {
		return nil, fmt.Errorf("document of job %s: %w", job, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.of) >= maxDocuments {
		for any := range d.of {
			delete(d.of, any)
			break
		}
	}
	if d.of == nil {
		d.of = map[string]template{}
	}
	d.of[job] = t
	return t.with(stamp), nil
}

// split cuts a document at its creationTimestamp. The members before it are text,
// in which a quote never stands alone: the first match is the member.
func split(raw json.RawMessage) (template, error) {
	var doc protocol.DeploymentDocument
	if err := json.Unmarshal(raw, &doc); err != nil {
		return template{}, err
	}
	doc.CreationTimestamp = 0
	b, err := json.Marshal(doc)
	if err != nil {
		return template{}, err
	}
	const member = `"creationTimestamp":`
	head, tail, ok := bytes.Cut(b, []byte(member+"0"))
	if !ok {
		return template{}, fmt.Errorf("has no %s", member)
	}
	return template{append(bytes.Clone(head), member...), tail}, nil
}
