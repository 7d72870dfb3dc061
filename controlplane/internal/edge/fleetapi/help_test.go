package fleetapi_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/ggfleet/ggfleet/controlplane/internal/edge/fleetapi/fleetapitest"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

func TestABundleAndARestartAreForAdmins(t *testing.T) {
	for body, least := range map[string]string{
		`{"kind":"logs.tail"}`: "operator", `{"kind":"logs.range"}`: "operator", `{"kind":"diagnose","diagnostic":"disk"}`: "operator",
		`{"kind":"bundle"}`: "admin", `{"kind":"restart","component":"com.example.Press"}`: "admin",
	} {
		for role, token := range map[string]string{"viewer": fleetapitest.ViewerToken, "operator": fleetapitest.OperatorToken, "admin": fleetapitest.AdminToken} {
			h := populated(t)
			may := role == "admin" || role == "operator" && least == "operator"
			a := h.call(t, "POST", "/cores/press-07/helpRequests", body, "Authorization", "Bearer "+token)
			if !may {
				assert.Equal(t, 403, a.status, "%s %s", role, body)
				h.call(t, "POST", "/cores/press-07/helpRequests", body) // by an admin
				if role == "operator" {
					assert.Equal(t, 403, h.call(t, "GET", "/helpRequests/"+fleetapitest.HelpID+"/content", "", "Authorization", "Bearer "+token).status, "its content neither")
				}
				continue
			}
			assert.Equal(t, 201, a.status, a.body)
			assert.Equal(t, "/helpRequests/"+fleetapitest.HelpID, a.header.Get("Location"))
			assert.NotEmpty(t, a.json(t)["by"], "who asked")
			assert.Equal(t, 200, h.call(t, "GET", "/helpRequests/"+fleetapitest.HelpID+"/content", "", "Authorization", "Bearer "+token).status)
		}
	}
}

func TestContentsAreServedInRanges(t *testing.T) {
	h := populated(t)
	whole := h.call(t, "GET", "/helpRequests/"+fleetapitest.HelpID+"/content", "")
	assert.Equal(t, fleetapitest.HelpContent, whole.body)
	assert.Equal(t, "text/plain; charset=utf-8", whole.header.Get("Content-Type"))
	part := h.call(t, "GET", "/helpRequests/"+fleetapitest.HelpID+"/content", "", "Range", "bytes=4-7")
	assert.Equal(t, 206, part.status)
	assert.Equal(t, fleetapitest.HelpContent[4:8], part.body)
	assert.Equal(t, 404, h.call(t, "GET", "/helpRequests/none/content", "").status)
	h.call(t, "POST", "/cores/press-07/helpRequests", `{"kind":"bundle"}`)
	zip := h.call(t, "GET", "/helpRequests/"+fleetapitest.HelpID+"/content", "")
	assert.Equal(t, "application/zip", zip.header.Get("Content-Type"))
}

func TestWhatARequestForHelpDoesNotSayIsFilledIn(t *testing.T) {
	h := populated(t)
	for body, want := range map[string]protocol.HelpAsk{
		`{"kind":"logs.tail"}`:                                {Kind: protocol.HelpLogsTail, Of: "nucleus", Lines: 200},
		`{"kind":"logs.tail","component":"a.B","lines":7}`:    {Kind: protocol.HelpLogsTail, Of: "component", Component: "a.B", Lines: 7},
		`{"kind":"logs.range","of":"agent","waitSeconds":25}`: {Kind: protocol.HelpLogsRange, Of: "agent", Length: 1 << 20, WaitSeconds: 25},
		`{"kind":"restart","component":"a.B"}`:                {Kind: protocol.HelpRestart, Of: "component", Component: "a.B"},
		`{"kind":"diagnose","diagnostic":"clock"}`:            {Kind: protocol.HelpDiagnose, Diagnostic: "clock"},
	} {
		a := h.call(t, "POST", "/devices/gauge-1/helpRequests", body)
		assert.Equal(t, 201, a.status, a.body)
		assert.Equal(t, want, h.LastHelp.HelpAsk)
		assert.Equal(t, protocol.Subject{Role: protocol.RoleClient, Name: "gauge-1"}, h.LastHelp.Subject)
	}
	for _, body := range []string{
		`{"kind":"shell"}`, `{"kind":"diagnose"}`, `{"kind":"diagnose","diagnostic":"rm -rf"}`, `{"kind":"logs.tail","lines":10001}`, `{"kind":"restart","of":"agent"}`,
		`{"kind":"logs.tail","component":"../x"}`, `{"kind":"logs.range","waitSeconds":26}`, `{"kind":"bundle","lines":5}`, `{"kind":"bundle","argv":["sh"]}`,
	} {
		assert.Equal(t, 400, h.call(t, "POST", "/cores/press-07/helpRequests", body).status, body)
	}
}
