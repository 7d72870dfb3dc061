package fleetapitest

import (
	"context"

	"github.com/ggfleet/ggfleet/controlplane/internal/enrollment"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// EnrollmentID is the id of the one request that there is.
const EnrollmentID = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

// Enrollments is the port of enrolment: one device asks, and there are as many
// rules as are made.
type Enrollments struct{ f *Fake }

func (e Enrollments) change(id string, edit func(*enrollment.Request)) (enrollment.Request, error) {
	done, err := e.f.lock()
	defer done()
	if err != nil {
		return enrollment.Request{}, err
	}
	if id != EnrollmentID {
		return enrollment.Request{}, fault.New(fault.NotFound, "enrolment request %s does not exist", id)
	}
	if e.f.enrollment.ID == "" {
		e.f.enrollment = enrollment.Request{
			ID: id, Way: enrollment.WayNone, Name: "press-09", Role: protocol.RoleCore, Status: enrollment.Waiting, FirstAsked: Now(), LastAsked: Now(),
		}
	}
	edit(&e.f.enrollment)
	return e.f.enrollment, nil
}

// Request returns the one that there is.
func (e Enrollments) Request(_ context.Context, id string) (enrollment.Request, error) {
	return e.change(id, func(*enrollment.Request) {})
}

// Requests returns the one that there is, if it is selected.
func (e Enrollments) Requests(ctx context.Context, f enrollment.RequestFilter, after string, _ int) ([]enrollment.Request, string, error) {
	r, err := e.Request(ctx, EnrollmentID)
	if err != nil || after >= EnrollmentID || f.Status != "" && f.Status != r.Status || f.Name != "" && f.Name != r.Name {
		return nil, "", err
	}
	return []enrollment.Request{r}, "", nil
}

// Approve approves it.
func (e Enrollments) Approve(_ context.Context, id string, a enrollment.Approval) (enrollment.Request, error) {
	return e.change(id, func(r *enrollment.Request) {
		r.Status, r.Decision = enrollment.Approved, &enrollment.Decision{By: a.By, At: Now(), Reason: a.Reason, Create: &a.Create}
	})
}

// Deny denies it.
func (e Enrollments) Deny(_ context.Context, id, by, reason string) (enrollment.Request, error) {
	return e.change(id, func(r *enrollment.Request) {
		r.Status, r.Decision = enrollment.Denied, &enrollment.Decision{By: by, At: Now(), Reason: reason}
	})
}

// DeleteRequest does nothing.
func (e Enrollments) DeleteRequest(context.Context, string, string) error {
	done, err := e.f.lock()
	defer done()
	return err
}

// Rule returns a rule.
func (e Enrollments) Rule(_ context.Context, name string) (enrollment.Rule, error) {
	return get(e.f, e.f.enrollmentRules, "enrolment rule", name)
}

// Rules returns all rules.
func (e Enrollments) Rules(context.Context) ([]enrollment.Rule, error) {
	done, err := e.f.lock()
	defer done()
	var out []enrollment.Rule
	for _, r := range e.f.enrollmentRules {
		out = append(out, r)
	}
	return out, err
}

func (e Enrollments) put(name string, ifVersion int, edit func(*enrollment.Rule)) (enrollment.Rule, error) {
	done, err := e.f.lock()
	defer done()
	r := e.f.enrollmentRules[name]
	if err == nil {
		err = stale(r.Version, ifVersion)
	}
	if err != nil {
		return enrollment.Rule{}, err
	}
	edit(&r)
	r.Name, r.Version, r.CreatedAt, r.UpdatedAt = name, r.Version+1, Now(), Now()
	e.f.enrollmentRules[name] = r
	return r, nil
}

// PutRule stores a rule.
func (e Enrollments) PutRule(_ context.Context, name string, n enrollment.NewRule, _ string, ifVersion int) (enrollment.Rule, error) {
	return e.put(name, ifVersion, func(r *enrollment.Rule) { r.NewRule = n })
}

// PutSerials counts the serials of the list.
func (e Enrollments) PutSerials(ctx context.Context, name string, list []byte, _ string, ifVersion int) (enrollment.Rule, error) {
	serials, err := enrollment.ParseSerials(list)
	if err != nil {
		return enrollment.Rule{}, err
	}
	if _, err := e.Rule(ctx, name); err != nil {
		return enrollment.Rule{}, err
	}
	return e.put(name, ifVersion, func(r *enrollment.Rule) { r.SerialCount = len(serials) })
}

// DeleteRule removes a rule.
func (e Enrollments) DeleteRule(ctx context.Context, name, _ string, ifVersion int) error {
	r, err := e.Rule(ctx, name)
	if err == nil {
		err = stale(r.Version, ifVersion)
	}
	if err != nil {
		return err
	}
	done, err := e.f.lock()
	defer done()
	delete(e.f.enrollmentRules, name)
	return err
}
