#!/bin/sh
# Installs Debian packages: apt.sh PACKAGE...
# Services that come with them are not started, neither now nor with the machine.
set -eu

missing=
for package; do
    dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

by_hand() {
    echo "$1 Type this, then try again:" >&2
    echo "    sudo apt-get update && sudo apt-get install -y$missing" >&2
    exit 1
}

command -v apt-get >/dev/null || {
    echo "Missing:$missing (names of Debian). There is no apt-get here: install them your system's way." >&2
    exit 1
}
if [ "$(id -u)" != 0 ]; then
    sudo -n true 2>/dev/null || by_hand "Missing:$missing. Only root can install them."
    exec sudo -n "$0" "$@"
fi

# One at a time; the next one finds the work done.
if [ -z "${APT_SH_LOCKED-}" ]; then
    APT_SH_LOCKED=1 exec flock "$0" "$0" "$@"
fi

echo "Installing$missing with apt-get: once, one to three minutes ..."
export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1
policy=/usr/sbin/policy-rc.d
before=$policy.before-apt-sh
log=$(mktemp)
known=$(mktemp)

finish() {
    rm -f "$log" "$known" "$policy"
    [ ! -e "$before" ] || mv "$before" "$policy"
}
trap finish EXIT
trap 'exit 1' HUP INT TERM

# Asked by packages whether they may start a service. Should we be killed, it stands aside by itself.
if [ -e "$policy" ] && ! grep -q "$before" "$policy"; then
    mv "$policy" "$before"
fi
cat >"$policy" <<POLICY
#!/bin/sh
[ -d /proc/$$ ] && exit 101
[ -x $before ] && exec $before "\$@"
exit 0
POLICY
chmod 755 "$policy"

dpkg-query -W -f '${binary:Package}\n' | sort >"$known"
install() {
    # shellcheck disable=SC2086  # several words
    apt-get install -qq -y --no-install-recommends -o DPkg::Lock::Timeout=300 $missing >"$log" 2>&1 </dev/null
}
# The lists may be missing or old; updating them takes a while and is mostly needless.
install || { apt-get update -qq >/dev/null 2>&1 || true; install; } || {
    tail -n 5 "$log" >&2
    by_hand "apt-get could not install$missing."
}

command -v systemctl >/dev/null || exit 0
for package in $(dpkg-query -W -f '${binary:Package}\n' | sort | comm -13 "$known" -); do
    for unit in $(dpkg -L "$package" | sed -n 's#^\(/usr\)\{0,1\}/lib/systemd/system/\([^/@]*\.\(service\|socket\)\)$#\2#p'); do
        systemctl disable "$unit" >/dev/null 2>&1 || true
    done
done
