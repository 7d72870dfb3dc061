package nucleus

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"io"
	"os"
	"path"
	"strconv"
	"strings"

	"github.com/ggfleet/ggfleet/shared/fault"
)

// litePackageName is what AWS calls the package, deb and rpm alike.
const litePackageName = "aws-greengrass-lite"

const (
	arMagic    = "!<arch>\n"
	arHeader   = 60
	maxControl = 1 << 20 // bytes of a deb's control file, and of an rpm's header
	maxMembers = 16      // of a deb before its control data
)

// pkg is what a package says about itself.
type pkg struct {
	file    string // its name in the archive
	name    string
	version string
	arch    string
	depends string
}

// upstream is the version without epoch and revision.
func (p pkg) upstream() string {
	v := p.version
	if _, after, ok := strings.Cut(v, ":"); ok {
		v = after
	}
	if i := strings.LastIndexByte(v, '-'); i > 0 {
		v = v[:i]
	}
	v, _, _ = strings.Cut(v, "~")
	return v
}

// readDeb reads the control data of a deb: an ar archive of debian-binary,
// control.tar[.gz] and data.tar.
func readDeb(r io.Reader) (pkg, error) {
	var magic [len(arMagic)]byte
	if _, err := io.ReadFull(r, magic[:]); err != nil || string(magic[:]) != arMagic {
		return pkg{}, fault.New(fault.Invalid, "the package is no deb: it does not begin as an ar archive")
	}
	for range maxMembers {
		name, size, err := arMember(r)
		if err != nil {
			return pkg{}, err
		}
		member := io.LimitReader(r, size)
		switch {
		case name == "control.tar.gz" || name == "control.tar":
			return debControl(member, name)
		case strings.HasPrefix(name, "control.tar"):
			return pkg{}, fault.New(fault.Unsupported, "the package's control data is %s; only gzip is read: build it with dpkg-deb -Zgzip, or repack it: dpkg-deb -R FILE DIR && dpkg-deb -Zgzip -b DIR FILE", path.Ext(name)[1:])
		}
		if n, err := io.Copy(io.Discard, io.LimitReader(r, size+size%2)); err != nil || n < size {
			break
		}
	}
	return pkg{}, fault.New(fault.Invalid, "the package is no deb: it has no control data")
}

func arMember(r io.Reader) (name string, size int64, err error) {
	var h [arHeader]byte
	if _, err := io.ReadFull(r, h[:]); err != nil || string(h[58:]) != "`\n" {
		return "", 0, fault.New(fault.Invalid, "the package is no deb: it has no control data, or is cut off")
	}
	size, err = strconv.ParseInt(strings.TrimSpace(string(h[48:58])), 10, 64)
	if err != nil || size < 0 {
		return "", 0, fault.New(fault.Invalid, "the package is damaged: a member of %q bytes", h[48:58])
	}
	return strings.TrimSuffix(strings.TrimSpace(string(h[:16])), "/"), size, nil
}

func debControl(r io.Reader, name string) (pkg, error) {
	if strings.HasSuffix(name, ".gz") {
		gz, err := gzip.NewReader(r)
		if err != nil {
			return pkg{}, fault.New(fault.Invalid, "the package's control data is not gzip: %v", err)
		}
		r = gz
	}
	tr := tar.NewReader(io.LimitReader(r, 8*maxControl))
	for range 1000 {
		h, err := tr.Next()
		if err != nil {
			break
		}
		if path.Clean(h.Name) == "control" && h.Typeflag == tar.TypeReg {
			b, err := atMost(tr, "control", maxControl)
			if err != nil {
				return pkg{}, err
			}
			return parseControl(b)
		}
	}
	return pkg{}, fault.New(fault.Invalid, "the package's control data has no file control")
}

// parseControl reads the fields of a control file; a line that begins with a
// blank goes on with the field before.
func parseControl(b []byte) (pkg, error) {
	var p pkg
	fields := map[string]*string{"package": &p.name, "version": &p.version, "architecture": &p.arch, "depends": &p.depends}
	var at *string
	lines := bufio.NewScanner(bytes.NewReader(b))
	lines.Buffer(nil, maxControl+1)
	for lines.Scan() {
		line := lines.Text()
		if line == "" {
			break
		}
		if line[0] == ' ' || line[0] == '\t' {
			if at != nil {
				*at += " " + strings.TrimSpace(line)
			}
			continue
		}
		key, value, _ := strings.Cut(line, ":")
		if at = fields[strings.ToLower(key)]; at != nil {
			*at = strings.TrimSpace(value)
		}
	}
	return p, p.check()
}

func (p pkg) check() error {
	for _, f := range []struct{ name, value string }{{"name", p.name}, {"version", p.version}, {"architecture", p.arch}} {
		if f.value == "" || len(f.value) > 128 || strings.ContainsFunc(f.value, func(r rune) bool { return r <= ' ' || r > '~' || r == '/' }) {
			return fault.New(fault.Invalid, "the package has %q as its %s", f.value, f.name)
		}
	}
	return nil
}

// Tags of an rpm's header.
const (
	rpmName    = 1000
	rpmVersion = 1001
	rpmRelease = 1002
	rpmArch    = 1022
)

// readRPM reads the header of an rpm: lead, signature, header.
func readRPM(r io.Reader) (pkg, error) {
	if _, err := io.CopyN(io.Discard, r, 96); err != nil {
		return pkg{}, fault.New(fault.Invalid, "the package is no rpm: it is cut off")
	}
	if _, err := rpmHeader(r, true); err != nil {
		return pkg{}, err
	}
	text, err := rpmHeader(r, false)
	if err != nil {
		return pkg{}, err
	}
	p := pkg{name: text[rpmName], version: text[rpmVersion], arch: text[rpmArch]}
	if p.version != "" && text[rpmRelease] != "" {
		p.version += "-" + text[rpmRelease]
	}
	return p, p.check()
}

// rpmHeader reads one header structure and returns its texts by tag.
func rpmHeader(r io.Reader, padded bool) (map[uint32]string, error) {
	damaged := fault.New(fault.Invalid, "the package is no rpm, or is damaged in its header")
	var intro [16]byte
	if _, err := io.ReadFull(r, intro[:]); err != nil || !bytes.HasPrefix(intro[:], []byte{0x8e, 0xad, 0xe8, 1}) {
		return nil, damaged
	}
	count, size := binary.BigEndian.Uint32(intro[8:]), binary.BigEndian.Uint32(intro[12:])
	if count > 1<<16 || size > 16*maxControl {
		return nil, damaged
	}
	total := int64(count)*16 + int64(size)
	if padded {
		total += -int64(size) & 7
	}
	var buf bytes.Buffer // grows with what is there, not with what is claimed
	if _, err := io.CopyN(&buf, r, total); err != nil {
		return nil, damaged
	}
	b := buf.Bytes()
	index, store := b[:count*16], b[count*16:]
	text := map[uint32]string{}
	for ; len(index) > 0; index = index[16:] {
		const stringType, i18nType = 6, 9
		kind, offset := binary.BigEndian.Uint32(index[4:]), binary.BigEndian.Uint32(index[8:])
		if kind != stringType && kind != i18nType || int64(offset) >= int64(len(store)) {
			continue
		}
		value := store[offset:]
		if i := bytes.IndexByte(value, 0); i >= 0 {
			text[binary.BigEndian.Uint32(index)] = string(value[:i])
		}
	}
	return text, nil
}

// readPackage reads what a package file says about itself.
func readPackage(file string) (pkg, error) {
	f, err := os.Open(file)
	if err != nil {
		return pkg{}, err
	}
	defer f.Close() //nolint:errcheck // read only
	if path.Ext(file) == ".rpm" {
		return readRPM(f)
	}
	return readDeb(f)
}
