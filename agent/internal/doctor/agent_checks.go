package doctor

import (
	"context"
	"slices"
	"strings"
)

// waitingHigh is more than an agent that gets through ever has waiting.
const waitingHigh = 1 << 20

func checkWaiting(_ context.Context, e *examination) finding {
	if e.Waiting > waitingHigh {
		return warned("%d KB wait", e.Waiting>>10)
	}
	return passed("%d KB wait", e.Waiting>>10)
}

func checkDropped(_ context.Context, e *examination) finding {
	if e.Dropped > 0 {
		return warned("%d were given up over the life of this device", e.Dropped)
	}
	return passed("none")
}

func checkPatches(_ context.Context, e *examination) finding {
	if !slices.Contains(e.Allowed, "patches") {
		return skipped("they are not allowed here")
	}
	program, err := e.LookPath("ansible-playbook")
	if err != nil {
		return failed("there is no ansible-playbook")
	}
	return passed("%s", program)
}

func checkUpdate(_ context.Context, e *examination) finding {
	switch {
	case e.Update.Rejected != "":
		return warned("%s", e.Update.Rejected)
	case e.Update.Keys == 0:
		return skipped("no release key is trusted: this agent does not update itself")
	}
	return passed("%d release keys are trusted", e.Update.Keys)
}

func checkRecords(_ context.Context, e *examination) finding {
	if len(e.Aside) > 0 {
		return warned("%s", strings.Join(e.Aside, ", "))
	}
	return passed("none was found damaged")
}
