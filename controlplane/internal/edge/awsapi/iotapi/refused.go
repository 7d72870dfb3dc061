package iotapi

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/edge/awsapi/rest"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/iot"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// refusal is the error of the API for what the registry refuses with a reason
// (iot-api §1).
func refusal(r iot.Reason) (status int, code string) {
	switch r {
	case iot.Attached:
		return http.StatusConflict, "DeleteConflictException"
	case iot.WrongStatus:
		return http.StatusNotAcceptable, "CertificateStateException"
	case iot.BadCertificate:
		return http.StatusBadRequest, "CertificateValidationException"
	case iot.BadVerification:
		return http.StatusBadRequest, "RegistrationCodeValidationException"
	case iot.AmbiguousCA:
		return http.StatusConflict, "CertificateConflictException"
	case iot.BadPolicy:
		return http.StatusBadRequest, "MalformedPolicyException"
	case iot.TooManyVersions:
		return http.StatusConflict, "VersionsLimitExceededException"
	}
	return 0, ""
}

// refused words an error of the registry; one without a reason stays as it is.
func refused(err error) error {
	reason, ok := errors.AsType[iot.Reason](err)
	if !ok {
		return err
	}
	status, code := refusal(reason)
	if code == "" {
		return err
	}
	return rest.Fail(status, code, fault.Message(err), nil)
}

// generation names one incarnation of a resource: made again, it has another.
func generation(created time.Time) string { return strconv.FormatInt(created.UnixNano(), 36) }
