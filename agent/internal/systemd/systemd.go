package systemd

import (
	"strconv"
	"strings"
)

// Unit is what was asked of one unit, by the names of systemd's properties.
type Unit map[string]string

// Int returns a property that is a number, 0 if it is none.
func (u Unit) Int(property string) int {
	n, err := strconv.Atoi(u[property])
	if err != nil {
		return 0
	}
	return n
}

// ParseShow reads the output of 'systemctl show': a block of lines for each unit,
// in the order asked. What is no property is passed over.
func ParseShow(out string) (units []Unit) {
	for block := range strings.SplitSeq(out, "\n\n") {
		u := Unit{}
		for line := range strings.Lines(block) {
			if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
				u[name] = value
			}
		}
		if len(u) > 0 {
			units = append(units, u)
		}
	}
	return units
}
