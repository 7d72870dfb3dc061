#!/bin/sh
# The start script of a simulated classic nucleus. It does what the real one is
# known to do: exit codes 0 and 100 start anew, 101 reboots, and after three
# failures the launch folder "old" comes back, if there is one.
root=$(cd "$(dirname "$0")/../../../.." && pwd)
current=$root/alts/current
told=

move() { # $1's target becomes $2's
  target=$(readlink "$1")
  ln -sfn "$target" "$2"
  rm -f "$1"
}

nucleus() {
  options=
  [ ! -f "$current/launch.params" ] || options=$(cat "$current/launch.params")
  # shellcheck disable=SC2086
  "${GG_JAVA_EXE:-java}" -Dlog.store=FILE $options "-Droot=$root" -jar "$current/distro/lib/Greengrass.jar" --setup-system-service false &
  child=$!
  trap 'told=yes; kill -TERM "$child"' TERM
  wait "$child"
  code=$?
  if [ -n "$told" ]; then wait "$child"; fi
}

if [ -d "$root/alts/new" ]; then
  if [ ! -d "$root/alts/old" ]; then move "$current" "$root/alts/old"; fi
  move "$root/alts/new" "$current"
fi
if [ -d "$root/alts/old" ] && { [ -d "$root/alts/broken" ] || [ ! -d "$current" ]; }; then
  move "$root/alts/old" "$current"
fi

for try in 1 2 3; do
  nucleus
  [ -z "$told" ] || exit "$code"
  case $code in
    0 | 100) exec "$current/distro/bin/loader" ;;
    101) reboot; exit 0 ;;
  esac
  echo "the nucleus ended with code $code, try $try"
done
if [ -d "$root/alts/old" ]; then
  move "$current" "$root/alts/broken"
  move "$root/alts/old" "$current"
fi
exit "$code"
