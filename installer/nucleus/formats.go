package nucleus

import (
	"os"

	"github.com/ggfleet/ggfleet/shared/fault"
)

// Formats of archives.
const (
	FormatTarGz = "tar.gz"
	FormatZip   = "zip"
	FormatDeb   = "deb"
	FormatRPM   = "rpm"
)

// Names of the nucleus components.
const (
	ClassicName = "aws.greengrass.Nucleus"
	LiteName    = "aws.greengrass.NucleusLite"
)

// Layout says what a distribution looks like inside.
type Layout string

// The layouts.
const (
	LayoutProgram     Layout = "program"      // distribution.json names the program; it is run as a process
	LayoutClassic     Layout = "classic"      // AWS's zip of the classic nucleus: lib/Greengrass.jar, conf/recipe.yaml, bin/loader
	LayoutLitePackage Layout = "lite-package" // nucleus lite as a deb or rpm, alone or in AWS's zip
	LayoutLiteFiles   Layout = "lite-files"   // nucleus lite as programs and systemd units
)

// Sniff tells the format of an archive by its first bytes and leaves f at its
// start. The error is of kind fault.Unsupported.
func Sniff(f *os.File) (string, error) {
	return "", fault.New(fault.Unsupported, "not yet")
}

// Inspect reads what an archive holds without unpacking it and leaves f at its
// start. format "" means Sniff. For every layout but LayoutProgram name and
// version are read from what the nucleus itself carries (recipe.yaml, the
// package's control data). Errors are of kind fault.Invalid, fault.TooLarge or
// fault.Unsupported and say what was looked for.
func Inspect(f *os.File, format string) (Manifest, error) {
	return Manifest{}, fault.New(fault.Unsupported, "not yet")
}
