package cli

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/jedib0t/go-pretty/v6/table"
	"go.yaml.in/yaml/v3"
)

// result is what a command prints: value as JSON or YAML, rows as a table, vars
// as shell variables. A line stands below a table, or is all there is to say.
type result struct {
	value  any
	header []string
	rows   [][]any
	line   string
	vars   [][2]string
}

func (a *app) print(w io.Writer, r result) error {
	switch {
	case r.value == nil && r.line == "" && r.header == nil:
		return nil
	case a.format == "env":
		if r.vars == nil {
			return failure(ExitUsage, "this command has nothing to print as shell variables; use -o table, json or yaml")
		}
		for _, v := range r.vars {
			if _, err := fmt.Fprintf(w, "export %s=%s\n", v[0], quote(v[1])); err != nil {
				return err
			}
		}
		return nil
	case a.format == "json" && r.value != nil:
		b, err := json.MarshalIndent(r.value, "", "  ")
		if err != nil {
			return fmt.Errorf("encoding the answer: %w", err)
		}
		_, err = fmt.Fprintf(w, "%s\n", b)
		return err
	case a.format == "yaml" && r.value != nil:
		return printYAML(w, r.value)
	case r.header != nil:
		t := table.NewWriter()
		t.SetStyle(plain())
		t.AppendHeader(row(r.header))
		for _, cells := range r.rows {
			t.AppendRow(cells)
		}
		if _, err := fmt.Fprintln(w, t.Render()); err != nil || r.line == "" {
			return err
		}
		_, err := fmt.Fprintf(w, "\n%s\n", r.line)
		return err
	}
	_, err := fmt.Fprintln(w, r.line)
	return err
}

// plain is a table without lines, made for reading and for cut and awk alike.
func plain() table.Style {
	s := table.StyleDefault
	s.Options = table.OptionsNoBordersAndSeparators
	s.Box.PaddingLeft = ""
	s.Box.PaddingRight = "   "
	return s
}

func row(cells []string) table.Row {
	r := make(table.Row, len(cells))
	for i, c := range cells {
		r[i] = c
	}
	return r
}

// printYAML goes through JSON, so that both forms have the same names.
func printYAML(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encoding the answer: %w", err)
	}
	var n yaml.Node
	if err := yaml.Unmarshal(b, &n); err != nil {
		return fmt.Errorf("encoding the answer: %w", err)
	}
	unflow(&n)
	e := yaml.NewEncoder(w)
	e.SetIndent(2)
	if err := e.Encode(&n); err != nil {
		return fmt.Errorf("encoding the answer: %w", err)
	}
	return e.Close()
}

// unflow makes YAML that was read from JSON look like YAML.
func unflow(n *yaml.Node) {
	n.Style = 0
	for _, c := range n.Content {
		unflow(c)
	}
}

// quote makes s one word of a POSIX shell.
func quote(s string) string {
	out := "'"
	for _, r := range s {
		if r == '\'' {
			out += `'\''`
			continue
		}
		out += string(r)
	}
	return out + "'"
}
