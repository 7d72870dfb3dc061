package standin

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"fmt"
	"io/fs"
	"path"
	"runtime"
	"strings"
	"time"

	"github.com/ggfleet/ggfleet/installer/nucleus"
)

// File is one file of an archive.
type File struct {
	Name string
	Data []byte
	Mode fs.FileMode
}

// ClassicFiles are the files of AWS's zip of the classic nucleus, with our own
// content: jar and loader play the nucleus.
func ClassicFiles(version string, jar, loader []byte) []File {
	text := func(name, data string) File { return File{name, []byte(data), 0o644} }
	return []File{
		text("LICENSE", "not AWS's\n"), text("NOTICE", "a stand-in for tests\n"), text("README.md", "# A stand-in\n"), text("THIRD-PARTY-LICENSES", "none\n"),
		{"bin/greengrass.exe", []byte("MZ"), 0o755},
		text("bin/greengrass.service.procd.template", "#!/bin/sh /etc/rc.common\n"),
		text("bin/greengrass.service.template", `[Unit]
Description=Greengrass Core
After=network.target

[Service]
Type=simple
PIDFile=REPLACE_WITH_GG_LOADER_PID_FILE
RemainAfterExit=no
Restart=on-failure
RestartSec=10
ExecStart=/bin/sh REPLACE_WITH_GG_LOADER_FILE
KillMode=mixed

[Install]
WantedBy=multi-user.target
`),
		text("bin/greengrass.xml.template", "<service/>\n"),
		{"bin/loader", loader, 0o755},
		text("bin/loader.cmd", "@echo off\r\n"),
		text("conf/recipe.yaml", fmt.Sprintf("---\nRecipeFormatVersion: \"2020-01-25\"\nComponentName: %s\nComponentVersion: %q\nComponentType: aws.greengrass.nucleus\n", nucleus.ClassicName, version)),
		{"lib/Greengrass.jar", jar, 0o644},
	}
}

// liteDaemons and liteTools are lite's programs.
var (
	liteDaemons = []string{"ggconfigd", "iotcored", "tesd", "ggdeploymentd", "gg-fleet-statusd", "ggpubsubd", "gghealthd", "ggipcd", "tes-serverd"}
	liteTools   = []string{"ggl-cli", "recipe-runner", "fleet-provisioning"}
)

// LiteFiles are the programs and units of nucleus lite below usr: the programs
// in usr/bin, which the units start at prefix (/usr/bin for the package).
func LiteFiles(prefix string, program []byte) []File {
	var out []File
	for _, p := range append(append([]string(nil), liteDaemons...), liteTools...) {
		out = append(out, File{"usr/bin/" + p, program, 0o755})
	}
	unit := func(name, text string) {
		out = append(out, File{"usr/lib/systemd/system/" + name, []byte(text), 0o644})
	}
	unit(nucleus.LiteTarget, "[Unit]\nDescription=AWS IoT Greengrass nucleus lite (stand-in)\n\n[Install]\nWantedBy=multi-user.target\n")
	services, sockets := nucleus.LiteUnits()
	for _, s := range services {
		daemon := strings.TrimSuffix(strings.TrimPrefix(s, "ggl.core."), ".service")
		if strings.HasPrefix(daemon, "ggl.") {
			daemon = "tes-serverd"
		}
		unit(s, fmt.Sprintf("[Unit]\nDescription=%s (stand-in)\nPartOf=%s\n\n[Service]\nExecStart=%s/%s\nUser=ggcore\nGroup=ggcore\nWorkingDirectory=/var/lib/greengrass\nRestart=always\nRestartSec=1\n\n[Install]\nWantedBy=%s\n",
			daemon, nucleus.LiteTarget, prefix, daemon, nucleus.LiteTarget))
	}
	for _, s := range sockets {
		short := strings.TrimSuffix(strings.TrimPrefix(s, "ggl."), ".socket")
		unit(s, fmt.Sprintf("[Unit]\nPartOf=%s\nBefore=%s\n\n[Socket]\nListenStream=/run/greengrass/%s\nFileDescriptorName=%s\nService=%s\nSocketUser=ggcore\nSocketGroup=ggcore\nSocketMode=0660\n\n[Install]\nWantedBy=%s\nWantedBy=sockets.target\n",
			nucleus.LiteTarget, nucleus.LiteTarget, short, short, socketService(short), nucleus.LiteTarget))
	}
	return append(out, File{"usr/lib/tmpfiles.d/greengrass_dir.conf", []byte("d /run/greengrass 0755 ggcore ggcore\n"), 0o644})
}

// socketService is which daemon a socket wakes.
func socketService(socket string) string {
	daemon, ok := map[string]string{
		"aws_iot_tes": "tesd", "aws_iot_mqtt": "iotcored", "gg_config": "ggconfigd", "gg_health": "gghealthd",
		"gg_fleet_status": "gg-fleet-statusd", "gg_deployment": "ggdeploymentd", "gg_pubsub": "ggpubsubd",
	}[socket]
	if !ok {
		daemon = "ggipcd"
	}
	return "ggl.core." + daemon + ".service"
}

// LitePostinst is what a package's script does after the installation: accounts,
// folders and a file of config.d.
const LitePostinst = `#!/bin/sh
set -e
mkdir -p "$DPKG_ROOT/etc/greengrass/config.d" "$DPKG_ROOT/var/lib/greengrass"
if [ ! -e "$DPKG_ROOT/etc/greengrass/config.d/greengrass-lite.yaml" ]; then
  printf 'system:\n  rootPath: "/var/lib/greengrass"\n' > "$DPKG_ROOT/etc/greengrass/config.d/greengrass-lite.yaml"
fi
`

// LiteDeb is nucleus lite as a deb. depends may be empty.
func LiteDeb(version, arch, depends string, files []File) []byte {
	control := fmt.Sprintf("Package: aws-greengrass-lite\nVersion: %s\nArchitecture: %s\nMaintainer: ggfleet <nobody@ggfleet.example>\nPriority: optional\nSection: devel\n", version, arch)
	if depends != "" {
		control += "Depends: " + depends + "\n"
	}
	control += "Description: a stand-in for AWS IoT Greengrass nucleus lite\n for tests\n"
	var b bytes.Buffer
	b.WriteString("!<arch>\n")
	for _, m := range []struct {
		name string
		data []byte
	}{
		{"debian-binary", []byte("2.0\n")},
		{"control.tar.gz", TarGz([]File{{"./control", []byte(control), 0o644}, {"./postinst", []byte(LitePostinst), 0o755}})},
		{"data.tar.gz", TarGz(under("./", files))},
	} {
		fmt.Fprintf(&b, "%-16s%-12d%-6d%-6d%-8s%-10d`\n", m.name, 0, 0, 0, "100644", len(m.data))
		b.Write(m.data)
		if len(m.data)%2 == 1 {
			b.WriteByte('\n')
		}
	}
	return b.Bytes()
}

// Architecture is what Debian calls the architecture that this program is built
// for.
func Architecture() string {
	switch runtime.GOARCH {
	case "arm":
		return "armhf"
	case "386":
		return "i386"
	}
	return runtime.GOARCH
}

// LiteZip is a deb in a zip as AWS publishes it.
func LiteZip(version string, deb []byte) []byte {
	return Zip([]File{
		{"aws-greengrass-lite-" + version + "-Linux.deb", deb, 0o644},
		{"install-greengrass-lite.sh", []byte("#!/bin/bash\nexit 1\n"), 0o755},
		{"readme.txt", []byte("a stand-in\n"), 0o644},
	})
}

// LiteTarGz is nucleus lite as programs and units, in a folder that names the
// version.
func LiteTarGz(version string, files []File) []byte {
	return TarGz(under("aws-greengrass-lite-"+version+"-Linux/", files))
}

func under(dir string, files []File) []File {
	out := make([]File, len(files))
	for i, f := range files {
		f.Name = dir + f.Name
		out[i] = f
	}
	return out
}

// stamp makes equal content equal archives.
var stamp = time.Date(2020, 1, 25, 0, 0, 0, 0, time.UTC)

// Zip packs files; folders are entries of their own, as in AWS's.
func Zip(files []File) []byte {
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, f := range withFolders(files) {
		h := &zip.FileHeader{Name: f.Name, Method: zip.Deflate, Modified: stamp}
		h.SetMode(f.Mode)
		e, err := w.CreateHeader(h)
		if err == nil {
			_, err = e.Write(f.Data)
		}
		must(err)
	}
	must(w.Close())
	return b.Bytes()
}

// TarGz packs files with their folders.
func TarGz(files []File) []byte {
	var b bytes.Buffer
	gz := gzip.NewWriter(&b)
	w := tar.NewWriter(gz)
	for _, f := range withFolders(files) {
		h := &tar.Header{Name: f.Name, Mode: int64(f.Mode.Perm()), Size: int64(len(f.Data)), Typeflag: tar.TypeReg, ModTime: stamp, Uname: "root", Gname: "root"}
		if f.Mode.IsDir() {
			h.Typeflag = tar.TypeDir
		}
		must(w.WriteHeader(h))
		_, err := w.Write(f.Data)
		must(err)
	}
	must(w.Close())
	must(gz.Close())
	return b.Bytes()
}

func withFolders(files []File) []File {
	var out []File
	made := map[string]bool{".": true, "./": true}
	var folder func(dir string)
	folder = func(dir string) {
		if dir == "." || made[dir] {
			return
		}
		made[dir] = true
		folder(path.Dir(dir))
		prefix := ""
		if strings.HasPrefix(files[0].Name, "./") {
			prefix = "./"
		}
		out = append(out, File{Name: prefix + dir + "/", Mode: fs.ModeDir | 0o755})
	}
	for _, f := range files {
		folder(path.Dir(path.Clean(f.Name)))
		out = append(out, f)
	}
	return out
}

// must is for writers into memory, which do not fail.
func must(err error) {
	if err != nil {
		panic(err)
	}
}
