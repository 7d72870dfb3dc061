#!/bin/sh
# Installs, upgrades or removes ggfleet-agent on Linux and macOS. It needs a POSIX
# shell and the small tools of any system (also busybox); curl or GNU wget only
# when files are to be fetched.
set -eu

usage() {
	cat <<'END'
usage: install.sh [options]              install or upgrade the agent
       install.sh --uninstall [options]  remove it

Where the files of the release come from; if nothing is said, the script's own
folder when it holds them, else the control plane of --enroll:
  --from DIR         a folder that holds them
  --url URL          an https address that has them
  --ca-sha256 HEX    with --url: trust the CA with this SHA-256, as it lies there as
                     ca.pem, and no other (default: the CAs of this system)
  --enroll STRING    the control plane that this enrolment string names, trusting
                     only the CA that it names; the device is enrolled with it
                     afterwards, wherever the files come from. "-" reads the string
                     from standard input.

What is done:
  --version VERSION  of the release, when there are several
  --format FORMAT    deb, rpm or tar (default: what this system uses)
  --key KEY          minisign public key, or a file with it, that SHA256SUMS must be
                     signed with
  --allow LIST       with --enroll: what the control plane may do on this device
                     (see 'ggfleet-agent allow --help')
  --proxy URL        for fetching and for enrolling (default: https_proxy)
  --prefix DIR       where tar puts bin/ggfleet-agent (default: /usr/local)
  --uninstall        remove the agent; what it keeps stays
  --purge            with --uninstall: remove what it keeps as well
  --dry-run          only show what would be done
  --yes              do not ask

Exit status: 0 done, 1 it failed, 2 wrong command line.
END
}

program=ggfleet-agent
root=/var/lib/ggfleet-agent # the service's
settings=/etc/ggfleet-agent/environment # what the service reads its proxy from

say() { printf '%s\n' "$*"; }

die() {
	printf 'install.sh: %s\n' "$*" >&2
	exit 1
}

wrong() {
	printf 'install.sh: %s; see install.sh --help\n' "$*" >&2
	exit 2
}

has() { command -v "$1" >/dev/null 2>&1; }

# --- the command line

from='' url='' ca='' enroll='' version='' format='' key='' allow='' proxy='' prefix=/usr/local
uninstall='' purge='' dry='' yes=''
while [ $# -gt 0 ]; do
	case $1 in
	--from | --url | --ca-sha256 | --enroll | --version | --format | --key | --allow | --proxy | --prefix)
		[ $# -ge 2 ] || wrong "$1 needs a value"
		[ -n "$2" ] || wrong "$1 has an empty value"
		;;
	esac
	case $1 in
	--from) from=$2; shift ;;
	--url) url=${2%/}; shift ;;
	--ca-sha256) ca=$2; shift ;;
	--enroll) enroll=$2; shift ;;
	--version) version=${2#v}; shift ;;
	--format) format=$2; shift ;;
	--key) key=$2; shift ;;
	--allow) allow=$2; shift ;;
	--proxy) proxy=$2; shift ;;
	--prefix) prefix=${2%/}; shift ;;
	--uninstall) uninstall=1 ;;
	--purge) purge=1 ;;
	--dry-run) dry=1 ;;
	--yes) yes=1 ;;
	-h | --help) usage; exit 0 ;;
	*) wrong "unknown argument $1" ;;
	esac
	shift
done
chosen=$format
case $format in '' | deb | rpm | tar) ;; *) wrong "--format $format: want deb, rpm or tar" ;; esac
case $url in '' | https://*) ;; *) wrong "--url $url: want https://" ;; esac
case $ca in *[!0-9a-f]*) wrong "--ca-sha256 $ca: want 64 digits of lower-case hex" ;; esac
[ -z "$ca" ] || [ ${#ca} = 64 ] || wrong "--ca-sha256 $ca: want 64 digits of lower-case hex"
[ -z "$ca" ] || [ -n "$url" ] || wrong '--ca-sha256 goes with --url'
[ -z "$from" ] || [ -z "$url" ] || wrong '--from and --url exclude each other'
[ -z "$allow" ] || [ -n "$enroll" ] || wrong '--allow goes with --enroll'
[ -z "$purge" ] || [ -n "$uninstall" ] || wrong '--purge goes with --uninstall'
if [ "$enroll" = - ]; then
	IFS= read -r enroll || [ -n "$enroll" ] || die 'there is no enrolment string on standard input'
fi
if [ -n "$proxy" ]; then
	https_proxy=$proxy HTTPS_PROXY=$proxy
	export https_proxy HTTPS_PROXY
fi

# --- this system

case $(uname -s) in
Linux) os=linux ;;
Darwin)
	os=darwin
	root='/Library/Application Support/ggfleet-agent'
	;;
*) die "there is no agent for $(uname -s); Windows has install.ps1" ;;
esac
if [ -z "$format" ]; then
	if [ $os = linux ] && has dpkg && [ -e "${DPKG_ADMINDIR:-/var/lib/dpkg}/status" ]; then
		format=deb
	elif [ $os = linux ] && has rpm; then
		format=rpm
	else
		format=tar
	fi
fi
case $(uname -m) in
x86_64 | amd64) arch=amd64 ;;
aarch64 | arm64) arch=arm64 ;;
armv7* | armv8l) arch=arm ;;
*) die "there is no agent for processors of kind $(uname -m): want x86_64, aarch64 or armv7" ;;
esac
# A system of 32 bits may run on a kernel of 64.
if [ "$format" = deb ]; then
	case $(dpkg --print-architecture) in
	amd64) arch=amd64 ;;
	arm64) arch=arm64 ;;
	armhf) arch=arm ;;
	*) die "there is no package for Debian's architecture $(dpkg --print-architecture): want amd64, arm64 or armhf" ;;
	esac
elif [ "$(getconf LONG_BIT 2>/dev/null || echo 64)" = 32 ]; then
	case $arch in
	arm64) arch=arm ;;
	amd64) die 'there is no agent for x86 systems of 32 bits' ;;
	esac
fi

bin=/usr/bin/$program
[ "$format" != tar ] || bin=$prefix/bin/$program

# installed prints the version that is there, or nothing.
installed() {
	case $format in
	deb) dpkg-query -W -f '${db:Status-Status}' $program 2>/dev/null | grep -qx installed || return 0 ;;
	rpm) rpm -q $program >/dev/null 2>&1 || return 0 ;;
	esac
	[ -x "$bin" ] || return 0
	"$bin" version 2>/dev/null | awk '{print $2; exit}'
}

# What came as a tarball is removed as one, also where packages are usual.
if [ -n "$uninstall" ] && [ -z "$chosen" ] && [ -z "$(installed)" ] && [ -x "$prefix/bin/$program" ]; then
	format=tar
	bin=$prefix/bin/$program
fi

need_root() {
	[ "$(id -u)" = 0 ] || die 'this needs root: run it with sudo'
}

# ask shows nothing and returns when it may go on.
ask() {
	if [ -n "$dry" ]; then
		say 'Nothing was changed (--dry-run).'
		exit 0
	fi
	need_root
	[ -z "$yes" ] || return 0
	if [ -t 0 ]; then
		printf 'Continue? [y/N] '
		read -r answer || answer=
	elif (: </dev/tty) 2>/dev/null; then
		printf 'Continue? [y/N] ' >/dev/tty
		read -r answer </dev/tty || answer=
	else
		die 'there is nobody to ask: say --yes, or --dry-run to only look'
	fi
	case $answer in y | Y | yes | Yes | YES) ;; *) die 'nothing was changed' ;; esac
}

# run shows a command and runs it.
run() {
	say "+ $*"
	"$@" || die "this failed: $*"
}

systemd() { [ -d /run/systemd/system ]; }

# --- removing

if [ -n "$uninstall" ]; then
	there=$(installed)
	if [ -z "$there" ] && { [ -z "$purge" ] || [ ! -e "$root" ]; }; then
		say "$program is not installed ($format): nothing to do."
		exit 0
	fi
	say "This removes $program${there:+ $there} from this machine:"
	say "  service  is stopped, and with it a nucleus that the agent runs as a process"
	say "  program  $bin ($format)"
	if [ -n "$purge" ]; then
		say "  data     $root with identity and keys, and the nucleus that it installed: the device must be enrolled again"
	else
		say "  data     $root stays; --purge removes it"
	fi
	ask
	case $format in
	deb)
		if [ -n "$purge" ] && [ -n "$there" ] && [ -e "$root/agent" ]; then run "$bin" uninstall --purge --yes; fi
		if [ -n "$purge" ]; then run dpkg --purge $program; else run dpkg --remove $program; fi
		;;
	*)
		if [ -n "$there" ]; then
			if [ -n "$purge" ] && [ -e "$root/agent" ]; then
				run "$bin" uninstall --purge --yes
			elif [ "$format" = tar ] && { systemd || [ $os = darwin ]; }; then
				run "$bin" uninstall
			fi
			if [ "$format" = rpm ]; then run rpm -e $program; else run rm -f "$bin"; fi
		fi
		[ -z "$purge" ] || run rm -rf "$root" /etc/ggfleet-agent
		;;
	esac
	say "$program is removed."
	exit 0
fi

# --- checking

missing=''
for tool in awk sed grep tr mktemp dirname; do
	has $tool || missing="$missing $tool"
done
has sha256sum || has shasum || has openssl || missing="$missing sha256sum"
[ "$format" != tar ] || has tar || missing="$missing tar"
[ -z "$missing" ] || die "these programs are missing here:$missing"

digest() { # of a file
	if has sha256sum; then
		sha256sum <"$1"
	elif has shasum; then
		shasum -a 256 <"$1"
	else
		openssl dgst -sha256 -r <"$1"
	fi | sed 's/[^0-9a-f].*//'
}

unbase64() {
	if has base64; then base64 -d; elif has openssl; then openssl base64 -d -A; else die 'these programs are missing here: base64'; fi
}

tmp=$(mktemp -d)
no_room=": if ${TMPDIR:-/tmp} is full, make room there, or name another folder in TMPDIR"
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' HUP INT TERM

here=$(dirname -- "$0")
if [ -z "$from" ] && [ -z "$url" ] && [ -f "$here/SHA256SUMS" ] && [ -f "$here/install.sh" ]; then from=$here; fi

server=''
if [ -n "$enroll" ]; then
	case $enroll in ggf1.*) ;; *) die 'the enrolment string must begin with "ggf1."; copy it whole from the activation' ;; esac
	body=$(printf '%s' "${enroll#ggf1.}" | tr -d ' \r\n' | tr '_-' '/+')
	while [ $((${#body} % 4)) != 0 ]; do body=$body=; done
	printf '%s\n' "$body" | unbase64 >"$tmp/string" 2>/dev/null || die 'the enrolment string is damaged; copy it whole from the activation'
	server=$(sed -n 's/.*"u":"\(https:[^"]*\)".*/\1/p' "$tmp/string")
	fingerprint=$(sed -n 's/.*"f":"\([0-9a-f]*\)".*/\1/p' "$tmp/string")
	rm -f "$tmp/string"
	if [ -z "$server" ] || [ ${#fingerprint} != 64 ]; then
		die 'the enrolment string is damaged; copy it whole from the activation'
	fi
	if [ -z "$from" ] && [ -z "$url" ]; then
		url=${server%/}/install
		ca=$fingerprint
	fi
fi
[ -n "$from$url" ] || wrong 'say where the release is: --from DIR, --url URL or --enroll STRING'
[ -z "$from" ] || [ -f "$from/SHA256SUMS" ] || die "there is no SHA256SUMS in $from: that is no folder of a release"

# fetch NAME: of the release, to $tmp/NAME.
trust=''
fetch() {
	if [ -n "$from" ]; then
		[ -f "$from/$1" ] || die "there is no $1 in $from"
		cp -- "$from/$1" "$tmp/$1" || die "$from/$1 cannot be copied to $tmp$no_room"
		return
	fi
	if has curl; then
		set -- "$1" curl --fail --silent --show-error --proto =https --retry 3 --connect-timeout 20 --max-time 3600 --output "$tmp/$1"
		case $trust in '') ;; none) set -- "$@" --insecure ;; *) set -- "$@" --cacert "$trust" ;; esac
	elif wget --version 2>/dev/null | grep -q GNU; then
		set -- "$1" wget --no-verbose --tries=3 --timeout=60 --output-document="$tmp/$1"
		case $trust in '') ;; none) set -- "$@" --no-check-certificate ;; *) set -- "$@" --ca-certificate="$trust" ;; esac
	else
		die 'neither curl nor GNU wget is here to fetch with: install one, or bring the files and say --from DIR'
	fi
	name=$1
	shift
	"$@" "$url/$name" 2>"$tmp/problem" || die "fetching $url/$name failed: $(tr '\n' ' ' <"$tmp/problem")${https_proxy:+(proxy $https_proxy)}"
}

# Only the CA with the right digest is trusted, wherever it came from.
if [ -n "$url" ] && [ -n "$ca" ]; then
	trust=none
	fetch ca.pem
	awk -v dir="$tmp" '/-BEGIN CERTIFICATE-/{n++; f=dir "/ca" n} f{print > f} /-END CERTIFICATE-/{close(f); f=""} n>=20{exit}' "$tmp/ca.pem"
	trust=''
	for f in "$tmp"/ca[0-9]*; do
		[ -f "$f" ] || continue
		grep -v -- '-----' "$f" | unbase64 >"$tmp/der" 2>/dev/null || continue
		if [ "$(digest "$tmp/der")" = "$ca" ]; then trust=$f; fi
	done
	[ -n "$trust" ] || die "$url does not show the CA with SHA-256 $ca: it is another control plane, or somebody is in between"
fi

fetch SHA256SUMS

# verify: SHA256SUMS is signed by $key (minisign's format).
verify() {
	if [ -f "$key" ]; then
		key=$(sed -n '/comment:/d; /./{p; q;}' "$key")
	fi
	fetch SHA256SUMS.minisig
	if has minisign; then
		minisign -V -q -P "$key" -m "$tmp/SHA256SUMS" >"$tmp/problem" 2>&1 || die "SHA256SUMS is not signed by key $key: $(tr '\n' ' ' <"$tmp/problem")"
		return
	fi
	has openssl || die 'neither minisign nor openssl is here to check the signature with'
	printf '%s\n' "$key" | unbase64 >"$tmp/key.bin" 2>/dev/null || die "--key $key is no public key of minisign"
	sed -n 2p "$tmp/SHA256SUMS.minisig" | unbase64 >"$tmp/sig.bin" 2>/dev/null || die 'SHA256SUMS.minisig is damaged'
	[ "$(wc -c <"$tmp/key.bin")" -eq 42 ] || die "--key $key is no public key of minisign"
	[ "$(wc -c <"$tmp/sig.bin")" -eq 74 ] || die 'SHA256SUMS.minisig is damaged'
	tail -c +3 "$tmp/key.bin" | head -c 8 >"$tmp/key.id"
	tail -c +3 "$tmp/sig.bin" | head -c 8 >"$tmp/sig.id"
	[ "$(digest "$tmp/key.id")" = "$(digest "$tmp/sig.id")" ] || die "SHA256SUMS is signed by another key than $key"
	{
		printf '\060\052\060\005\006\003\053\145\160\003\041\000'
		tail -c 32 "$tmp/key.bin"
	} >"$tmp/key.der"
	tail -c 64 "$tmp/sig.bin" >"$tmp/sig.raw"
	case $(head -c 2 "$tmp/sig.bin") in
	ED) openssl dgst -blake2b512 -binary -out "$tmp/signed" "$tmp/SHA256SUMS" ;;
	Ed) cp "$tmp/SHA256SUMS" "$tmp/signed" ;;
	*) die 'SHA256SUMS.minisig is damaged' ;;
	esac
	openssl pkeyutl -verify -pubin -keyform DER -inkey "$tmp/key.der" -rawin -in "$tmp/signed" -sigfile "$tmp/sig.raw" >"$tmp/problem" 2>&1 ||
		die "SHA256SUMS is not signed by key $key: $(tr '\n' ' ' <"$tmp/problem")"
}
[ -z "$key" ] || verify

# The one file of the release that is for this system.
ext=$format
[ "$format" != tar ] || ext=tar.gz
awk -v head="${program}_" -v tail="_${os}_${arch}.$ext" '
	length($1) == 64 && $1 ~ /^[0-9a-f]+$/ {
		name = $2; sub(/^\*/, "", name)
		if (index(name, head) == 1 && length(name) > length(head tail) && substr(name, length(name) - length(tail) + 1) == tail && name !~ /\//)
			print $1, name, substr(name, length(head) + 1, length(name) - length(head) - length(tail))
	}' "$tmp/SHA256SUMS" >"$tmp/offers" || die "$tmp/offers cannot be written$no_room"
if [ -n "$version" ]; then
	awk -v v="$version" '$3 == v' "$tmp/offers" >"$tmp/offer"
	[ -s "$tmp/offer" ] || die "the release has no $program $version for ${os}_$arch as $ext; it has: $(awk '{printf "%s ", $3}' "$tmp/offers")"
else
	cp "$tmp/offers" "$tmp/offer"
	[ -s "$tmp/offer" ] || die "the release has no $program for ${os}_$arch as $ext"
fi
[ "$(wc -l <"$tmp/offer")" -eq 1 ] || die "there are several versions: $(awk '{printf "%s ", $3}' "$tmp/offer")- choose one with --version"
read -r sum file version <"$tmp/offer"

# --- what will be done

there=$(installed)
say "This installs $program $version for ${os}_$arch on this machine:"
say "  from     ${from:-$url}"
if [ -n "$ca" ]; then say "  trusting the CA with SHA-256 $ca, no other"; fi
if [ -n "$key" ]; then
	say '  signed   SHA256SUMS has the signature of the key that was given'
fi
if [ "$there" = "$version" ]; then
	say "  install  nothing: $version is there already"
else
	say "  check    SHA-256 of $file is $sum"
	case $format in
	deb) say "  install  dpkg -i $file${there:+ (now $there)}" ;;
	rpm) say "  install  rpm -U $file${there:+ (now $there)}" ;;
	tar) say "  install  $bin${there:+ (now $there)}" ;;
	esac
fi
if [ -n "$proxy" ] && systemd; then say "  proxy    $settings names $proxy for the service"; fi
if [ -n "$enroll" ]; then say "  enrol    this device at $server${allow:+, allowing $allow}"; fi
if [ $os = darwin ] || systemd; then
	say "  service  $program starts with the machine${enroll:+ and now}"
else
	say "  service  none: systemd does not run here; start '$program run' by other means"
fi
ask

# --- doing it

if [ "$there" != "$version" ]; then
	fetch "$file"
	[ "$(digest "$tmp/$file")" = "$sum" ] || die "$file is not what SHA256SUMS says: its SHA-256 is $(digest "$tmp/$file"), want $sum; nothing was changed"
	case $format in
	deb) run dpkg -i "$tmp/$file" ;;
	rpm) run rpm -U "$tmp/$file" ;;
	tar)
		mkdir "$tmp/unpacked"
		tar -xzf "$tmp/$file" -C "$tmp/unpacked" $program || die "$file cannot be unpacked"
		mkdir -p "$prefix/bin"
		{ cp "$tmp/unpacked/$program" "$bin.new" && chmod 0755 "$bin.new" && mv -f "$bin.new" "$bin"; } || die "$bin cannot be written"
		say "+ $bin is written"
		if systemd && systemctl --quiet is-active $program; then run systemctl reload $program; fi
		;;
	esac
fi
"$bin" version >/dev/null || die "$bin does not run here"
if [ -n "$proxy" ] && systemd; then
	mkdir -p "${settings%/*}" || die "$settings cannot be written"
	{
		if [ -e "$settings" ]; then grep -v '^HTTPS_PROXY=' "$settings" || :; fi
		printf 'HTTPS_PROXY="%s"\n' "$proxy"
	} >"$settings.new"
	{ chmod 0600 "$settings.new" && mv -f "$settings.new" "$settings"; } || die "$settings cannot be written"
	say "+ $settings is written"
fi
if [ -n "$enroll" ]; then
	say "+ $program enroll -"
	if [ -n "$allow" ]; then set -- --allow "$allow"; else set --; fi
	printf '%s\n' "$enroll" | "$bin" enroll - "$@" || die "the agent is installed and could not be enrolled; run '$program enroll STRING' when the reason is gone"
fi
# A package has made its own service; what an administrator chose for it stays.
if [ -n "$enroll" ] && { systemd || [ $os = darwin ]; } || { [ "$format" = tar ] && systemd; }; then run "$bin" install; fi
say "$program $version is installed."
if [ -z "$enroll" ] && [ ! -e "$root/agent/identity.json" ]; then say "Next: $program enroll STRING"; fi
