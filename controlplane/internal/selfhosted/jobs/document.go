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

// documents keeps what never changes of the jobs that devices asked for last: the
// document, ready but for the stamp, and the time that a core may take.
type documents struct {
	mu sync.Mutex // guards of
	of map[string]template
}

// template is a document around its creationTimestamp.
type template struct {
	head, tail []byte
	minutes    int // the job's TimeoutMinutes
}

// with returns the document with the stamp.
func (t template) with(stamp int64) json.RawMessage {
	out := make([]byte, 0, len(t.head)+len(t.tail)+20)
	out = strconv.AppendInt(append(out, t.head...), stamp, 10)
	return append(out, t.tail...)
}

// template returns what never changes of the job.
func (s *Service) template(ctx context.Context, job string) (template, error) {
	d := &s.documents
	d.mu.Lock()
	t, known := d.of[job]
	d.mu.Unlock()
	if known {
		return t, nil
	}
	j, err := s.Job(ctx, job)
	if err != nil {
		return t, err
	}
	if t, err = split(j.Value.Document); err != nil {
		return t, fmt.Errorf("document of job %s: %w", job, err)
	}
	t.minutes = j.Value.TimeoutMinutes
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
	return t, nil
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
	return template{head: append(bytes.Clone(head), member...), tail: tail}, nil
}
