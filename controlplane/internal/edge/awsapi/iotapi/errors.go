package iotapi

import (
	"errors"
	"net/http"

	"github.com/ggfleet/ggfleet/controlplane/internal/edge/awsapi/rest"
	"github.com/ggfleet/ggfleet/shared/fault"
)

func internal() rest.Error {
	return rest.Error{Status: http.StatusInternalServerError, Code: "InternalFailureException", Message: "The request could not be carried out; try again."}
}

// awsError words what went wrong as the API's clients know it (iot-api §1).
func awsError(err error) *rest.Error {
	if e, ok := errors.AsType[*rest.InvalidError](err); ok {
		return &rest.Error{Status: http.StatusBadRequest, Code: "InvalidRequestException", Message: e.Error()}
	}
	if e, ok := errors.AsType[*rest.UnparsableError](err); ok {
		return &rest.Error{Status: http.StatusBadRequest, Code: "InvalidRequestException", Message: e.Text}
	}
	if e, ok := errors.AsType[*rest.ThrottledError](err); ok { // 400 on this API
		return &rest.Error{Status: http.StatusBadRequest, Code: "ThrottlingException", Message: e.Error(), RetryAfter: e.After}
	}
	text := fault.Message(err)
	switch fault.KindOf(err) {
	case fault.Invalid, fault.Unsupported:
		return &rest.Error{Status: http.StatusBadRequest, Code: "InvalidRequestException", Message: text}
	case fault.NotFound:
		return &rest.Error{Status: http.StatusNotFound, Code: "ResourceNotFoundException", Message: text}
	case fault.Exists:
		return &rest.Error{Status: http.StatusConflict, Code: "ResourceAlreadyExistsException", Message: text}
	case fault.Stale:
		return &rest.Error{Status: http.StatusConflict, Code: "VersionConflictException", Message: text}
	case fault.Conflict:
		if text == "" {
			text = "The resource was changed at the same moment; try again."
		}
		return &rest.Error{Status: http.StatusConflict, Code: "ConflictingResourceUpdateException", Message: text}
	case fault.Exhausted, fault.TooLarge:
		return &rest.Error{Status: http.StatusGone, Code: "LimitExceededException", Message: text}
	case fault.Denied, fault.Unauthenticated:
		return &rest.Error{Status: http.StatusUnauthorized, Code: "UnauthorizedException", Message: text}
	case fault.Unavailable:
		return &rest.Error{Status: http.StatusServiceUnavailable, Code: "ServiceUnavailableException", Message: text}
	}
	return nil
}

// exists says that a name is taken, by what the model requires.
func exists(id, arn string, err error) error {
	e := awsError(err)
	if err == nil || e == nil || e.Code != "ResourceAlreadyExistsException" {
		return err
	}
	return rest.Fail(e.Status, e.Code, e.Message, map[string]any{"resourceId": id, "resourceArn": arn})
}
