package nucleus

// Exit codes of the classic nucleus's process (its loader script knows them).
const (
	ExitRestart = 100 // start it again at once; so does 0
	ExitReboot  = 101 // it asks for a reboot of the device. The agent never does that: it starts it again and says so
)

// Units of systemd.
const (
	ClassicUnit = "greengrass.service"
	LiteTarget  = "greengrass-lite.target"
)

// Launch is how an installed version is run.
type Launch struct {
	// Unit is what systemd starts, stops and restarts. Empty: a process, Program
	// with Args.
	Unit string
	// Watch are the units that must be active for the nucleus to be healthy.
	Watch []string

	Program string // absolute
	Args    []string
	Env     []string // added to the environment
	Dir     string   // working folder
}
