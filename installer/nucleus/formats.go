package nucleus

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
