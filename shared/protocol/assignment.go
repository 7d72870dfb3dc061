package protocol

import "net/url"

// AssignmentQuery is what an agent says of its device when it asks for its
// assignment. Every member may be empty: the answer is then for any device.
type AssignmentQuery struct {
	Platform string // GOOS/GOARCH, as linux/arm64: which build of the nucleus fits
	Runtime  string // classic, lite: which nucleus the core's configuration or what is installed asks for

	Agent AgentAbout // the agent itself
}

// maxQuery bounds each member of an AssignmentQuery in bytes.
const maxQuery = 64

// Path returns the path of a core's assignment call with q as its query.
func (q AssignmentQuery) Path() string { return q.under(PathAgentCore) }

// DevicePath returns the path of a client device's assignment call with q as its
// query.
func (q AssignmentQuery) DevicePath() string { return q.under(PathAgentDevice) }

func (q AssignmentQuery) under(path string) string {
	v := url.Values{}
	for name, value := range map[string]string{"platform": q.Platform, "runtime": q.Runtime} {
		if value != "" {
			v.Set(name, value)
		}
	}
	q.Agent.Set(v)
	if len(v) == 0 {
		return path
	}
	return path + "?" + v.Encode()
}

// ParseAssignmentQuery reads what Path wrote. A value that is none is taken as
// not said: an agent that tells nonsense gets what an agent that tells nothing
// gets.
func ParseAssignmentQuery(v url.Values) AssignmentQuery {
	return AssignmentQuery{Platform: queryWord(v, "platform"), Runtime: queryWord(v, "runtime"), Agent: ParseAgentAbout(v)}
}
