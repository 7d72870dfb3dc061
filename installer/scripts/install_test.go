//go:build unix

package scripts_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/shared/protocol"
)

func TestFromAFolderInEachShell(t *testing.T) {
	for name, shell := range shells() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDevice(t, shell)
			from := newRelease(t, "1.2.3").write(t)
			args := []string{"--from", from, "--format", "tar", "--prefix", d.prefix}

			out, exit := d.run("", append(args, "--dry-run")...)
			assert.Zero(t, exit, out)
			assert.Contains(t, out, "This installs ggfleet-agent 1.2.3 for linux_amd64")
			assert.Contains(t, out, "Nothing was changed")
			assert.Empty(t, d.installed())

			out, exit = d.run("", args...)
			assert.Equal(t, 1, exit)
			assert.Contains(t, out, "nobody to ask")
			assert.Empty(t, d.installed())

			out, exit = d.run("", append(args, "--yes")...)
			require.Zero(t, exit, out)
			assert.Equal(t, "1.2.3", d.installed())
			assert.Contains(t, out, "Next: ggfleet-agent enroll STRING")

			out, exit = d.run("", append(args, "--yes")...)
			require.Zero(t, exit, out)
			assert.Contains(t, out, "nothing: 1.2.3 is there already")

			args[1] = newRelease(t, "1.3.0").write(t)
			out, exit = d.run("", append(args, "--yes")...)
			require.Zero(t, exit, out)
			assert.Contains(t, out, "(now 1.2.3)")
			assert.Equal(t, "1.3.0", d.installed())

			out, exit = d.run("", "--uninstall", "--format", "tar", "--prefix", d.prefix, "--yes")
			require.Zero(t, exit, out)
			assert.Empty(t, d.installed())
			out, exit = d.run("", "--uninstall", "--format", "tar", "--prefix", d.prefix, "--yes")
			assert.Zero(t, exit)
			assert.Contains(t, out, "nothing to do")
		})
	}
}

func TestWhatIsNotWhatItShouldBeIsNeverInstalled(t *testing.T) {
	const file = "ggfleet-agent_1.2.3_linux_amd64.tar.gz"
	tests := map[string]struct {
		harm func(r release)
		says string
	}{
		"an archive with one bit changed": {func(r release) { r[file] = bytes.Clone(r[file]); r[file][20] ^= 1 }, "is not what SHA256SUMS says"},
		"a truncated archive":             {func(r release) { r[file] = r[file][:40] }, "is not what SHA256SUMS says"},
		"a missing archive":               {func(r release) { delete(r, file) }, "there is no " + file},
		"no digests":                      {func(r release) { delete(r, "SHA256SUMS") }, "no folder of a release"},
		"damaged digests":                 {func(r release) { r["SHA256SUMS"] = []byte("x  " + file + "\n") }, "has no ggfleet-agent for linux_amd64"},
		"a name that leads out": {func(r release) {
			r["SHA256SUMS"] = []byte(strings.Repeat("0", 64) + "  ggfleet-agent_../../x_linux_amd64.tar.gz\n")
		}, "has no ggfleet-agent for linux_amd64"},
		"an archive without the program": {func(r release) { r[file] = []byte("nothing"); r.sum() }, "cannot be unpacked"},
		"a program that does not run": {func(r release) {
			b := r[file]
			clear(r)
			r[file] = b
			r.sum()
			r[file] = b[:len(b)-9]
			r.sum()
		}, "cannot be unpacked"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDevice(t, []string{"/bin/sh"})
			r := newRelease(t, "1.2.3")
			tc.harm(r)
			out, exit := d.run("", "--from", r.write(t), "--format", "tar", "--prefix", d.prefix, "--yes")
			assert.Equal(t, 1, exit, out)
			assert.Contains(t, out, tc.says)
			assert.Empty(t, d.installed())
			assert.Empty(t, d.told())
		})
	}
}

// enrollment is a string of the control plane at host, with the CA by.
func enrollment(host string, by *authority) string {
	return protocol.Enrollment{URL: "https://" + host, CAFingerprint: by.fingerprint(), ActivationID: "a-1", Code: "secret"}.String()
}

func TestOneStringInstallsAndEnrols(t *testing.T) {
	for _, fetcher := range []string{"curl", "wget"} {
		t.Run("with "+fetcher, func(t *testing.T) {
			t.Parallel()
			d := newDevice(t, []string{"/bin/sh"}, fetcher)
			by := newAuthority(t, "fleet")
			host := server(t, newRelease(t, "1.2.3"), by, append(bytes.Clone(newAuthority(t, "another").pem), by.pem...))
			text := enrollment(host, by)

			out, exit := d.run("", "--enroll", text, "--format", "tar", "--prefix", d.prefix, "--dry-run")
			require.Zero(t, exit, out)
			assert.Contains(t, out, "trusting the CA with SHA-256 "+by.fingerprint())
			assert.Contains(t, out, "enrol    this device at https://"+host)
			assert.Empty(t, d.installed())

			out, exit = d.run(text+"\n", "--enroll", "-", "--allow", "logs,patches", "--format", "tar", "--prefix", d.prefix, "--yes")
			require.Zero(t, exit, out)
			assert.Equal(t, "1.2.3", d.installed())
			assert.Contains(t, d.told(), "enroll - --allow logs,patches <"+text+">", "the secret is in no process list")
			assert.NotContains(t, out, text)
		})
	}
}

func TestOnlyTheNamedCAIsTrusted(t *testing.T) {
	by, other := newAuthority(t, "fleet"), newAuthority(t, "fleet")
	tests := map[string]struct {
		signs *authority // the server's certificate
		shows []byte     // as ca.pem
		says  string
	}{
		"somebody with a CA of the same name": {other, other.pem, "does not show the CA with SHA-256 " + by.fingerprint()},
		"somebody who shows the right CA":     {other, by.pem, "SHA256SUMS failed"},
		"rubbish":                             {by, []byte("-----BEGIN CERTIFICATE-----\nMII=\n-----END CERTIFICATE-----\n"), "does not show the CA"},
		"nothing":                             {by, nil, "ca.pem failed"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDevice(t, []string{"/bin/sh"}, "curl")
			host := server(t, newRelease(t, "1.2.3"), tc.signs, tc.shows)
			out, exit := d.run("", "--enroll", enrollment(host, by), "--format", "tar", "--prefix", d.prefix, "--yes")
			assert.Equal(t, 1, exit, out)
			assert.Contains(t, out, tc.says)
			assert.Empty(t, d.installed())
			assert.Empty(t, d.told())
		})
	}
}

func TestBehindAProxy(t *testing.T) {
	by := newAuthority(t, "fleet")
	text := enrollment("fleet.invalid:8443", by) // a name that only the proxy knows
	for _, fetcher := range []string{"curl", "wget"} {
		for _, how := range []string{"--proxy", "https_proxy"} {
			t.Run(fetcher+" and "+how, func(t *testing.T) {
				t.Parallel()
				d := newDevice(t, []string{"/bin/sh"}, fetcher)
				url, used := proxy(t, server(t, newRelease(t, "1.2.3"), by, by.pem))
				args := []string{"--enroll", text, "--format", "tar", "--prefix", d.prefix, "--yes"}
				if how == "--proxy" {
					if _, err := os.Stat("/run/systemd/system"); err == nil {
						t.Skip("systemd runs here: it would write the service's settings")
					}
					args = append(args, "--proxy", url)
				} else {
					d.env = append(d.env, "https_proxy="+url)
				}
				out, exit := d.run("", args...)
				require.Zero(t, exit, out)
				assert.Equal(t, "1.2.3", d.installed())
				assert.Equal(t, int32(3), used.Load(), "CA, digests, archive")
				assert.Contains(t, d.told(), "https_proxy="+url, "the agent enrols through it")
			})
		}
	}
	t.Run("a proxy that is away", func(t *testing.T) {
		d := newDevice(t, []string{"/bin/sh"}, "curl")
		out, exit := d.run("", "--enroll", text, "--format", "tar", "--prefix", d.prefix, "--yes", "--proxy", "http://127.0.0.1:9")
		assert.Equal(t, 1, exit)
		assert.Contains(t, out, "fetching https://fleet.invalid:8443/install/ca.pem failed")
		assert.Contains(t, out, "(proxy http://127.0.0.1:9)")
	})
}

// minisign makes a key and what signs with it, in minisign's older form, whose
// parts the standard library has.
func minisign(t *testing.T) (key string, sign func([]byte) []byte) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	id := make([]byte, 8)
	_, _ = rand.Read(id)
	encode := func(parts ...[]byte) string {
		return base64.StdEncoding.EncodeToString(bytes.Join(parts, nil))
	}
	return encode([]byte("Ed"), id, public), func(m []byte) []byte {
		return []byte("untrusted comment: x\n" + encode([]byte("Ed"), id, ed25519.Sign(private, m)) + "\ntrusted comment: y\n" + encode(make([]byte, 64)) + "\n")
	}
}

func TestASignatureThatIsAskedForMustBeThere(t *testing.T) {
	key, sign := minisign(t)
	_, another := minisign(t)
	tests := map[string]struct {
		signature func(sums []byte) []byte
		says      string // empty: it installs
	}{
		"the right one":           {sign, ""},
		"none":                    {func([]byte) []byte { return nil }, "there is no SHA256SUMS.minisig"},
		"of another key":          {another, "another key"},
		"of other digests":        {func([]byte) []byte { return sign([]byte("x")) }, "is not signed by key"},
		"that is damaged":         {func([]byte) []byte { return []byte("a\nb\n") }, "damaged"},
		"of the right key, empty": {func([]byte) []byte { return []byte{} }, "damaged"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDevice(t, []string{"/bin/sh"}, "openssl")
			r := newRelease(t, "1.2.3")
			if s := tc.signature(r["SHA256SUMS"]); s != nil {
				r["SHA256SUMS.minisig"] = s
			}
			given := key
			if name == "the right one" {
				given = filepath.Join(t.TempDir(), "key.pub")
				require.NoError(t, os.WriteFile(given, []byte("untrusted comment: minisign public key\n"+key+"\n"), 0o600))
			}
			out, exit := d.run("", "--from", r.write(t), "--format", "tar", "--prefix", d.prefix, "--key", given, "--yes")
			if tc.says == "" {
				require.Zero(t, exit, out)
				assert.Equal(t, "1.2.3", d.installed())
				return
			}
			assert.Equal(t, 1, exit, out)
			assert.Contains(t, out, tc.says)
			assert.Empty(t, d.installed())
		})
	}
}

func TestWhatASystemLacksIsNamed(t *testing.T) {
	by := newAuthority(t, "fleet")
	fetching := []string{"--enroll", enrollment("127.0.0.1:9", by), "--format", "tar", "--yes"}
	tests := map[string]struct {
		without string
		fake    [2]string
		args    []string
		says    string
	}{
		"nothing to fetch with":    {"", [2]string{}, fetching, "neither curl nor GNU wget"},
		"a wget that is not GNU's": {"", [2]string{"wget", "echo BusyBox"}, fetching, "neither curl nor GNU wget"},
		"nothing to digest with":   {"sha256sum", [2]string{}, []string{"--from", ".", "--format", "tar"}, "missing here: sha256sum"},
		"no tar and no sed":        {"tar", [2]string{}, []string{"--from", ".", "--format", "tar"}, "missing here: tar"},
		"an old processor":         {"", [2]string{"uname", `case $1 in -s) echo Linux ;; *) echo armv6l ;; esac`}, []string{"--format", "tar"}, "processors of kind armv6l"},
		"x86 of 32 bits":           {"", [2]string{"getconf", "echo 32"}, []string{"--format", "tar"}, "x86 systems of 32 bits"},
		"another system":           {"", [2]string{"uname", "echo Plan9"}, nil, "no agent for Plan9"},
		"no root":                  {"", [2]string{"id", "echo 1000"}, []string{"--from", newRelease(t, "1.2.3").write(t), "--format", "tar", "--yes"}, "needs root"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDevice(t, []string{"/bin/sh"})
			if tc.without != "" {
				require.NoError(t, os.Remove(filepath.Join(d.bin, tc.without)))
			}
			if tc.fake[0] != "" {
				_ = os.Remove(filepath.Join(d.bin, tc.fake[0]))
				d.fake(tc.fake[0], tc.fake[1])
			}
			out, exit := d.run("", tc.args...)
			assert.Equal(t, 1, exit, out)
			assert.Contains(t, out, tc.says)
		})
	}
}

func TestTheRightFileIsChosen(t *testing.T) {
	both := newRelease(t, "1.2.3", "1.3.0-rc.1").write(t)
	one := newRelease(t, "1.2.3").write(t)
	dpkg := func(arch string) string {
		return "case $1 in --print-architecture) echo " + arch + " ;; *) exit 1 ;; esac"
	}
	tests := map[string]struct {
		machine string // as uname -m says
		program [2]string
		args    []string
		exit    int
		says    string
	}{
		"two versions":                        {"x86_64", [2]string{}, []string{"--from", both, "--format", "tar"}, 1, "there are several versions: 1.2.3 1.3.0-rc.1"},
		"one of two":                          {"x86_64", [2]string{}, []string{"--from", both, "--format", "tar", "--version", "v1.3.0-rc.1"}, 0, "installs ggfleet-agent 1.3.0-rc.1"},
		"one that is not there":               {"x86_64", [2]string{}, []string{"--from", both, "--format", "tar", "--version", "2.0.0"}, 1, "it has: 1.2.3 1.3.0-rc.1"},
		"64 bits of ARM":                      {"aarch64", [2]string{}, []string{"--from", one, "--format", "tar"}, 0, "for linux_arm64"},
		"32 bits on a kernel of 64":           {"aarch64", [2]string{"getconf", "echo 32"}, []string{"--from", one, "--format", "tar"}, 0, "for linux_arm on"},
		"Debian":                              {"x86_64", [2]string{"dpkg", dpkg("amd64")}, []string{"--from", one, "--format", "deb"}, 0, "dpkg -i ggfleet-agent_1.2.3_linux_amd64.deb"},
		"Raspberry Pi OS of 32 bits":          {"aarch64", [2]string{"dpkg", dpkg("armhf")}, []string{"--from", one, "--format", "deb"}, 0, "dpkg -i ggfleet-agent_1.2.3_linux_arm.deb"},
		"Debian for what we have no agent":    {"x86_64", [2]string{"dpkg", dpkg("i386")}, []string{"--from", one, "--format", "deb"}, 1, "architecture i386"},
		"a system with rpm":                   {"x86_64", [2]string{"rpm", "exit 1"}, []string{"--from", one}, 0, "rpm -U ggfleet-agent_1.2.3_linux_amd64.rpm"},
		"neither dpkg nor rpm":                {"x86_64", [2]string{}, []string{"--from", one}, 0, "/usr/local/bin/ggfleet-agent"},
		"an architecture without the package": {"aarch64", [2]string{"rpm", "exit 1"}, []string{"--from", one}, 1, "for linux_arm64 as rpm"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDevice(t, []string{"/bin/sh"})
			d.fake("uname", `case $1 in -s) echo Linux ;; *) echo `+tc.machine+` ;; esac`)
			if tc.program[0] != "" {
				d.fake(tc.program[0], tc.program[1])
			}
			out, exit := d.run("", append(tc.args, "--dry-run")...)
			assert.Equal(t, tc.exit, exit, out)
			assert.Contains(t, out, tc.says)
		})
	}
}

func TestTheCommandLine(t *testing.T) {
	tests := map[string]struct {
		args []string
		exit int
		says string
	}{
		"help":                     {[]string{"--help"}, 0, "usage: install.sh"},
		"an unknown argument":      {[]string{"--fly"}, 2, "unknown argument --fly"},
		"a missing value":          {[]string{"--from"}, 2, "--from needs a value"},
		"an empty value":           {[]string{"--from", ""}, 2, "empty value"},
		"a format":                 {[]string{"--format", "msi"}, 2, "want deb, rpm or tar"},
		"no encryption":            {[]string{"--url", "http://fleet.invalid"}, 2, "want https://"},
		"half a fingerprint":       {[]string{"--url", "https://fleet.invalid", "--ca-sha256", "abc"}, 2, "64 digits"},
		"two sources":              {[]string{"--url", "https://fleet.invalid", "--from", "."}, 2, "exclude each other"},
		"purge alone":              {[]string{"--purge"}, 2, "goes with --uninstall"},
		"allow alone":              {[]string{"--allow", "all"}, 2, "goes with --enroll"},
		"no source":                {[]string{"--format", "tar"}, 2, "say where the release is"},
		"a string that is not one": {[]string{"--enroll", "x", "--format", "tar"}, 1, "copy it whole"},
		"a damaged string":         {[]string{"--enroll", "ggf1.eyJ1Ijoi", "--format", "tar"}, 1, "copy it whole"},
		"a string of other bytes":  {[]string{"--enroll", "ggf1.$(id)", "--format", "tar"}, 1, "copy it whole"},
		"no string on input":       {[]string{"--enroll", "-"}, 1, "no enrolment string"},
		"a folder without release": {[]string{"--from", "/", "--format", "tar"}, 1, "no folder of a release"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, exit := newDevice(t, []string{"/bin/sh"}).run("", tc.args...)
			assert.Equal(t, tc.exit, exit, out)
			assert.Contains(t, out, tc.says)
		})
	}
}
