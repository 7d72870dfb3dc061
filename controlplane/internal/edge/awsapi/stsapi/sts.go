package stsapi

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/edge/awsapi/sigv4"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/names"
)

// maxBody bounds a request in bytes; real ones have about 50.
const maxBody = 16 << 10

const operation = "GetCallerIdentity"

// Verifier says who signed a request; sigv4.Verifier is one.
type Verifier interface {
	Verify(ctx context.Context, r *http.Request, body func() (string, error)) (sigv4.Caller, error)
}

// Config is what New needs. Verifier and Realm are required.
type Config struct {
	Verifier  Verifier
	Realm     names.Realm
	RoleAlias string // in the names of devices with temporary credentials
	Observe   func(service, operation string, status int, took time.Duration)
	Log       *slog.Logger // nil: discarded
}

// New returns the handler of service sts. Whoever signed with a key that is known
// is told who it is, whatever its role, as at AWS.
func New(cfg Config) (http.Handler, error) {
	if cfg.Verifier == nil || cfg.Realm.Account == "" {
		return nil, errors.New("sts: Verifier and Realm are required")
	}
	if cfg.Observe == nil {
		cfg.Observe = func(string, string, int, time.Duration) {}
	}
	if cfg.Log == nil {
		cfg.Log = logx.Discard()
	}
	return &api{cfg}, nil
}

type api struct{ cfg Config }

// refusal is an error in the words of STS.
type refusal struct {
	status        int
	code, message string
}

// ServeHTTP implements http.Handler.
func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	began, id := time.Now(), names.NewUUID()
	w.Header().Set("X-Amzn-Requestid", id)
	caller, no := a.serve(w, r)
	status, name := http.StatusOK, operation
	if no != nil {
		status, name = no.status, "-"
		writeXML(w, status, newErrorBody(*no, id))
	} else {
		body := answerBody{Identity: a.identity(caller)}
		body.Metadata.RequestID = id
		writeXML(w, status, body)
	}
	a.cfg.Observe("sts", name, status, time.Since(began))
}

// serve returns who called, or why not to tell.
func (a *api) serve(w http.ResponseWriter, r *http.Request) (sigv4.Caller, *refusal) {
	read := sync.OnceValues(func() ([]byte, error) { return io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody)) })
	caller, err := a.cfg.Verifier.Verify(r.Context(), r, func() (string, error) {
		b, err := read()
		sum := sha256.Sum256(b)
		return hex.EncodeToString(sum[:]), err
	})
	if e, ok := errors.AsType[*sigv4.Error](err); ok {
		return caller, &refusal{http.StatusForbidden, codeOf(e), e.Message}
	}
	body, bad := read()
	if bad != nil {
		return caller, &refusal{http.StatusBadRequest, "MalformedInput", "The request body did not arrive whole, or is too long."}
	}
	if err != nil {
		a.cfg.Log.ErrorContext(r.Context(), "aws request failed", "service", "sts", logx.Err, err)
		return caller, &refusal{http.StatusInternalServerError, "InternalFailure", "The request could not be carried out; try again."}
	}
	form, err := url.ParseQuery(string(body))
	if err != nil || r.URL.Query().Has("Action") {
		form = r.URL.Query()
	}
	if action := form.Get("Action"); action != operation {
		why := fmt.Sprintf("This server has no operation '%.80s' of STS, only %s: access keys are made by ggfleet access-key create.", action, operation)
		return caller, &refusal{http.StatusBadRequest, "InvalidAction", why}
	}
	return caller, nil
}

// codeOf is STS's own code for an error of a signature.
func codeOf(e *sigv4.Error) string {
	switch e.Code {
	case sigv4.CodeMissing:
		return "MissingAuthenticationToken"
	case sigv4.CodeIncomplete:
		return "IncompleteSignature"
	case sigv4.CodeInvalid:
		return "SignatureDoesNotMatch"
	case sigv4.CodeUnrecognized:
		return "InvalidClientTokenId"
	case sigv4.CodeExpired:
		return "ExpiredToken"
	default:
		return "AccessDenied"
	}
}

type identity struct {
	ARN     string `xml:"Arn"`
	UserID  string `xml:"UserId"`
	Account string `xml:"Account"`
}

type answerBody struct {
	XMLName  xml.Name `xml:"https://sts.amazonaws.com/doc/2011-06-15/ GetCallerIdentityResponse"`
	Identity identity `xml:"GetCallerIdentityResult"`
	Metadata struct {
		RequestID string `xml:"RequestId"`
	} `xml:"ResponseMetadata"`
}

// identity names an access key as a user, and a device with temporary credentials
// as a session of its role.
func (a *api) identity(c sigv4.Caller) identity {
	account := a.cfg.Realm.Account
	if c.Device != "" {
		return identity{"arn:aws:sts::" + account + ":assumed-role/" + a.cfg.RoleAlias + "/" + c.Device, c.AccessKey + ":" + c.Device, account}
	}
	return identity{"arn:aws:iam::" + account + ":user/" + c.AccessKey, c.AccessKey, account}
}

type errorBody struct {
	XMLName xml.Name `xml:"https://sts.amazonaws.com/doc/2011-06-15/ ErrorResponse"`
	Error   struct {
		Type    string
		Code    string
		Message string
	}
	RequestID string `xml:"RequestId"`
}

func newErrorBody(no refusal, id string) errorBody {
	b := errorBody{RequestID: id}
	b.Error.Type, b.Error.Code, b.Error.Message = "Sender", no.code, no.message
	if no.status >= http.StatusInternalServerError {
		b.Error.Type = "Receiver"
	}
	return b
}

func writeXML(w http.ResponseWriter, status int, body any) {
	raw, err := xml.Marshal(body)
	if err != nil { // the bodies above always encode
		status = http.StatusInternalServerError
	}
	w.Header().Set("Content-Type", "text/xml")
	w.WriteHeader(status)
	_, _ = w.Write(append([]byte(xml.Header), raw...))
}
