package localstate

// Point names one step of the agent's work after which the device or the
// control plane is different. The kill test ends a real agent before and after
// each of them.
type Point string

// The table of durable steps, in the order of a first installation and an
// update. A step that is carried out and not listed fails a test.
const (
	EnrollKey      Point = "enroll-key"      // the agent's key is stored
	EnrollCall     Point = "enroll-call"     // the control plane knows the agent
	EnrollIdentity Point = "enroll-identity" // the agent knows who it is

	CoreKey         Point = "core-key"              // the core's key is stored
	CoreCertCall    Point = "core-certificate-call" // the control plane has signed it
	CoreCertificate Point = "core-certificate"      // the core's certificate is stored
	CoreCA          Point = "core-ca"               // what the core trusts is stored
	CoreConfig      Point = "core-config"           // the installer configuration is stored

	Download Point = "download" // the archive is here
	Unpack   Point = "unpack"   // the version lies beside the others
	Trial    Point = "trial"    // the intent to change the version is stored
	Switch   Point = "switch"   // current points to the new version

	NucleusIntent Point = "nucleus-intent" // a start is about to happen
	NucleusStart  Point = "nucleus-start"  // the process runs
	NucleusRecord Point = "nucleus-record" // its pid is stored

	Commit Point = "commit" // the version on trial is the version
	Revert Point = "revert" // current points to the old version again
	Reject Point = "reject" // the failed version is remembered as such
	Prune  Point = "prune"  // older versions are gone

	PatchIntent Point = "patch-intent" // the run of a patch has a name
	PatchCall   Point = "patch-call"   // the control plane knows that it was taken
	PatchStart  Point = "patch-start"  // its start is about to happen
	PatchRun    Point = "patch-run"    // the playbook has run
	PatchEnd    Point = "patch-end"    // its result is stored
	PatchReport Point = "patch-report" // the control plane has the result
	PatchForget Point = "patch-forget" // nothing of it is left here
)

// Points returns the whole table.
func Points() []Point {
	return []Point{
		EnrollKey, EnrollCall, EnrollIdentity, CoreKey, CoreCertCall, CoreCertificate, CoreCA, CoreConfig,
		Download, Unpack, Trial, Switch, NucleusIntent, NucleusStart, NucleusRecord, Commit, Revert, Reject, Prune,
		PatchIntent, PatchCall, PatchStart, PatchRun, PatchEnd, PatchReport, PatchForget,
	}
}

// Around is called for each step with what carries it out, and must call do
// once. It is how a test watches and breaks the agent.
type Around func(p Point, do func() error) error
