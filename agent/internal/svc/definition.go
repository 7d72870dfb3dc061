package svc

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"path"
	"strings"

	"github.com/ggfleet/ggfleet/shared/fault"
)

// Definition is what a service manager is to run.
type Definition struct {
	Name    string // of the service
	Program string // absolute path of the agent
	Root    string // absolute path of its folder
}

// Render returns d as the service manager of goos reads it: a unit of systemd
// ("linux"), a property list of launchd ("darwin"), or as JSON what the service
// control manager is told ("windows").
func Render(goos string, d Definition) (string, error) {
	if d.Name == "" || d.Program == "" || d.Root == "" || strings.ContainsFunc(d.Name+d.Program+d.Root, func(r rune) bool { return r < ' ' }) {
		return "", fault.New(fault.Invalid, "a service needs a name, a program and a folder without control characters, not %q, %q, %q", d.Name, d.Program, d.Root)
	}
	if strings.Contains(d.Name+d.Program+d.Root, "{{") {
		return "", fault.New(fault.Invalid, "a service cannot have {{ in its paths: the service library takes that for a template")
	}
	switch goos {
	case "linux":
		return systemdUnit(d), nil
	case "darwin":
		return propertyList(d), nil
	case "windows":
		b, err := json.MarshalIndent(windowsService(d), "", "  ")
		return string(b) + "\n", err
	}
	return "", fault.New(fault.Unsupported, "the agent cannot be a service of %s; start 'ggfleet-agent run' by other means", goos)
}

// arguments are what the program is started with.
func (d Definition) arguments() []string { return []string{"run", "--root", d.Root} }

func (d Definition) description() string { return "ggfleet agent in " + d.Root }

func systemdUnit(d Definition) string {
	percent := strings.NewReplacer("%", "%%")
	quoted := make([]string, 0, 4)
	for _, word := range append([]string{d.Program}, d.arguments()...) {
		quoted = append(quoted, systemdWord(word))
	}
	return strings.NewReplacer(
		"@DESCRIPTION@", percent.Replace(d.description()),
		"@ROOT@", percent.Replace(d.Root),
		"@NAME@", percent.Replace(d.Name),
		"@EXEC@", strings.Join(quoted, " "),
	).Replace(unit)
}

// systemdWord is one word of a command line in a unit.
func systemdWord(s string) string {
	s = strings.NewReplacer("%", "%%", "$", "$$").Replace(s)
	if s != "" && !strings.ContainsAny(s, " '\"\\;") {
		return s
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

func propertyList(d Definition) string {
	var arguments strings.Builder
	for _, word := range append([]string{d.Program}, d.arguments()...) {
		fmt.Fprintf(&arguments, "\t\t<string>%s</string>\n", xmlText(word))
	}
	return strings.NewReplacer(
		"@NAME@", xmlText(d.Name),
		"@ARGUMENTS@\n", arguments.String(),
		"@LOG@", xmlText(path.Join(d.Root, "agent.log")),
	).Replace(plist)
}

func xmlText(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a builder takes everything
	return b.String()
}

// windows is what the service control manager is told.
type windows struct {
	Name        string
	DisplayName string
	Description string
	Program     string
	Arguments   []string
	Start       string // delayed: after what the machine needs first
	OnFailure   string
	AfterFailed string // a Go duration
	ForgetAfter int    // seconds without a failure
}

func windowsService(d Definition) windows {
	return windows{
		Name: d.Name, DisplayName: displayName, Description: d.description(), Program: d.Program, Arguments: d.arguments(),
		Start: "automatic, delayed", OnFailure: "restart", AfterFailed: "5s", ForgetAfter: 86400,
	}
}
