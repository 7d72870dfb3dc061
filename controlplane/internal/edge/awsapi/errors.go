package awsapi

import (
	"crypto/rand"
	"encoding/json"
	"encoding/xml"
	"errors"
	"net/http"

	"github.com/ggfleet/ggfleet/controlplane/internal/edge/awsapi/sigv4"
)

// s3ErrorBody is the error document of S3's protocol.
type s3ErrorBody struct {
	XMLName   xml.Name `xml:"Error"`
	Code      string
	Message   string
	Resource  string
	RequestID string `xml:"RequestId"`
}

// refuse answers a request that names no service. S3's form is the one that
// such a client most likely speaks: only S3 has unsigned requests and URLs
// that people paste.
func refuse(w http.ResponseWriter, r *http.Request, err error) {
	switch {
	case errors.Is(err, sigv4.ErrAnonymous):
		s3Error(w, r, http.StatusForbidden, "AccessDenied", "The request is not signed; sign it with an access key of this server ("+sigv4.Algorithm+").")
	case errors.Is(err, sigv4.ErrOldSign):
		s3Error(w, r, http.StatusBadRequest, "InvalidRequest",
			"Signature Version 2 is not supported; use Signature Version 4: set signature_version to s3v4 "+
				"(aws configure set default.s3.signature_version s3v4, or Config(signature_version='s3v4')).")
	case errors.Is(err, sigv4.ErrSignedTwice):
		s3Error(w, r, http.StatusBadRequest, "InvalidArgument", "Only one way of signing is allowed; the request has several.")
	default:
		s3Error(w, r, http.StatusBadRequest, "AuthorizationHeaderMalformed", "The signature cannot be read: "+err.Error()+".")
	}
}

func s3Error(w http.ResponseWriter, r *http.Request, status int, code, message string) {
	id := requestID()
	w.Header().Set("X-Amz-Request-Id", id)
	w.Header().Set("X-Amzn-Errortype", code) // for a client of another protocol
	writeXML(w, r, status, s3ErrorBody{Code: code, Message: message, Resource: r.URL.Path, RequestID: id})
}

// stsErrorBody is the error document of the query protocol, which STS speaks.
type stsErrorBody struct {
	XMLName xml.Name `xml:"https://sts.amazonaws.com/doc/2011-06-15/ ErrorResponse"`
	Error   struct {
		Type    string
		Code    string
		Message string
	}
	RequestID string `xml:"RequestId"`
}

// notServed answers for a service that has no handler.
func notServed(w http.ResponseWriter, r *http.Request, service string) {
	const status, code = http.StatusNotImplemented, "NotImplementedException"
	message := "The service " + service + " is not served by this endpoint yet."
	id := requestID()
	w.Header().Set("X-Amzn-Requestid", id)
	switch service {
	case ServiceS3:
		s3Error(w, r, status, "NotImplemented", message)
	case ServiceSTS:
		body := stsErrorBody{RequestID: id}
		body.Error.Type, body.Error.Code, body.Error.Message = "Receiver", code, message
		writeXML(w, r, status, body)
	default: // restJson1
		w.Header().Set("X-Amzn-Errortype", code)
		raw, err := json.Marshal(map[string]string{"message": message})
		write(w, r, status, "application/json", raw, err)
	}
}

func writeXML(w http.ResponseWriter, r *http.Request, status int, body any) {
	raw, err := xml.Marshal(body)
	write(w, r, status, "application/xml", append([]byte(xml.Header), raw...), err)
}

func write(w http.ResponseWriter, r *http.Request, status int, contentType string, body []byte, err error) {
	if err != nil { // the bodies above always encode
		status, body = http.StatusInternalServerError, nil
	}
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body)
	}
}

func requestID() string { return rand.Text()[:16] }
