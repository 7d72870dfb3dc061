package greengrassapi

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/ggfleet/ggfleet/controlplane/internal/edge/awsapi/rest"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// The codes of the API (greengrassv2-api §1.5).
const (
	validation    = "ValidationException"
	inProgress    = "RequestAlreadyInProgressException"
	quotaExceeded = "ServiceQuotaExceededException"
	accessDenied  = "AccessDeniedException"
	missing       = "ResourceNotFoundException"
	conflict      = "ConflictException"
	throttling    = "ThrottlingException"
)

// The kinds of resources that errors name.
const (
	kindDeployment = "deployment"
	kindComponent  = "component"
	kindCore       = "coreDevice"
	kindThing      = "thing"
	kindGroup      = "thinggroup"
)

const serviceCode = "greengrass"

// fieldInvalid is the reason of a refusal that names members.
const fieldInvalid = "FIELD_VALIDATION_FAILED"

func internal() rest.Error {
	return rest.Error{Status: http.StatusInternalServerError, Code: "InternalServerException", Message: "The request could not be carried out; try again.", RetryAfter: 1e9}
}

// awsError words what went wrong as the API's clients know it.
func awsError(err error) *rest.Error {
	if e, ok := errors.AsType[*rest.InvalidError](err); ok {
		fields := make([]map[string]string, len(e.Problems))
		for i, p := range e.Problems {
			fields[i] = map[string]string{"name": p.Name, "message": p.Message}
		}
		return invalid(summary(e), fieldInvalid, fields)
	}
	if e, ok := errors.AsType[*rest.UnparsableError](err); ok {
		return invalid(e.Text, "CANNOT_PARSE", nil)
	}
	if e, ok := errors.AsType[*rest.ThrottledError](err); ok {
		return &rest.Error{
			Status: http.StatusTooManyRequests, Code: throttling, Message: e.Error(), RetryAfter: e.After,
			Members: map[string]any{"serviceCode": serviceCode, "quotaCode": "requests"},
		}
	}
	text := fault.Message(err)
	switch fault.KindOf(err) {
	case fault.Invalid, fault.TooLarge:
		if f := fault.FieldOf(err); f != "" {
			return invalid(text, fieldInvalid, []map[string]string{{"name": f, "message": strings.TrimPrefix(text, f+": ")}})
		}
		return invalid(text, "OTHER", nil)
	case fault.Unsupported:
		return invalid(text, "OTHER", nil)
	case fault.NotFound:
		return resource(http.StatusNotFound, missing, text, "", "")
	case fault.Exists, fault.Conflict, fault.Stale:
		return resource(http.StatusConflict, conflict, or(text, "The resource was changed at the same moment; try again."), "", "")
	case fault.Exhausted:
		return &rest.Error{
			Status: http.StatusPaymentRequired, Code: quotaExceeded, Message: text,
			Members: map[string]any{"serviceCode": serviceCode, "quotaCode": "resources"},
		}
	case fault.Denied, fault.Unauthenticated:
		return &rest.Error{Status: http.StatusForbidden, Code: accessDenied, Message: text}
	case fault.Unavailable:
		e := internal()
		return &e
	}
	return nil
}

// maxNamed is how many problems the message names; the fields have all.
const maxNamed = 5

// summary is the message above the fields. It names what is wrong as well, because many
// clients show nothing else.
func summary(e *rest.InvalidError) string {
	n := len(e.Problems)
	if n == 1 {
		return "1 validation error detected: " + e.Error()
	}
	named := &rest.InvalidError{Problems: e.Problems[:min(n, maxNamed)]}
	s := fmt.Sprintf("%d validation errors detected: %s", n, named)
	if n > maxNamed {
		s += fmt.Sprintf("; and %d more", n-maxNamed)
	}
	return s
}

func invalid(message, reason string, fields []map[string]string) *rest.Error {
	m := map[string]any{"reason": reason}
	if len(fields) > 0 {
		m["fields"] = fields
	}
	return &rest.Error{Status: http.StatusBadRequest, Code: validation, Message: message, Members: m}
}

func resource(status int, code, message, kind, id string) *rest.Error {
	return &rest.Error{Status: status, Code: code, Message: message, Members: map[string]any{"resourceId": id, "resourceType": kind}}
}

// about adds to an error that a resource is not there or in the wrong state which
// one that is; the model requires it.
func about(kind, id string, err error) error {
	e := awsError(err)
	if err == nil || e == nil || e.Code != missing && e.Code != conflict {
		return err
	}
	return resource(e.Status, e.Code, e.Message, kind, id)
}

func or(v, instead string) string {
	if v == "" {
		return instead
	}
	return v
}
