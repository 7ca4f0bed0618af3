# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What the scripts share: words for people, Debian packages, the virtual environment, libvirt. Sourced, never run.

set -euo pipefail
umask 022

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
VENV=$ROOT/.venv
# The system's own: an interpreter below somebody's home directory cannot be run by anybody else.
PYTHON=/usr/bin/python3

# shellcheck disable=SC2034 # for those who source this
PYTHON_PACKAGES=(python3 python3-venv)
# libvirt's Python binding comes as source only.
BUILD_PACKAGES=(gcc libc6-dev pkg-config libvirt-dev python3-dev)
# libvirt-daemon-driver-qemu and ipxe-qemu are only recommended by what needs them; ovmf is for UEFI guests.
# shellcheck disable=SC2034
HOST_PACKAGES=(libvirt-daemon-system libvirt-daemon-driver-qemu libvirt-clients qemu-system-x86 qemu-utils ipxe-qemu
    ovmf iproute2)
# e2fsprogs makes file systems.
# shellcheck disable=SC2034
TEST_PACKAGES=("${PYTHON_PACKAGES[@]}" "${BUILD_PACKAGES[@]}" "${HOST_PACKAGES[@]}" e2fsprogs git systemd zsh)

# cache_dir, state_dir: where downloads, and what must last, belong.
cache_dir() { if is_root; then echo /var/cache/vdsm; else echo "${XDG_CACHE_HOME:-$HOME/.cache}/vdsm"; fi; }
state_dir() { if is_root; then echo /var/lib/vdsm; else echo "${XDG_STATE_HOME:-$HOME/.local/state}/vdsm"; fi; }

is_root() { [ "$(id -u)" = 0 ]; }

say() { printf '==> %s\n' "$*"; }
note() { printf '    %s\n' "$*"; }
warn() { printf 'warning: %s\n' "$*" >&2; }

# die WHAT [REMEDY...]: one line each.
die() {
    printf 'error: %s\n' "$1" >&2
    shift
    [ $# = 0 ] || printf '       %s\n' "$@" >&2
    exit 1
}

# with_lock DIRECTORY COMMAND...: one at a time. The lock is descriptor 9, which nothing that stays may inherit.
with_lock() {
    local directory=$1
    shift
    exec 9<"$directory"
    flock 9
    "$@"
    exec 9<&-
}

# quietly TITLE COMMAND...: run it with its output aside and show that it lives; if it fails, say so with the last of
# that output and return its status.
quietly() {
    local title=$1 log pid status=0
    shift
    log=$(mktemp --tmpdir vdsm-setup.XXXXXX)
    say "$title"
    "$@" >"$log" 2>&1 </dev/null 9<&- &
    pid=$!
    show_life "$pid"
    wait "$pid" || status=$?
    if [ "$status" != 0 ]; then
        warn "that failed with status $status; the end of its output:"
        tail -n 20 "$log" >&2
    fi
    rm -f "$log"
    return "$status"
}

# A counter of seconds on a terminal; elsewhere a line now and then.
show_life() {
    local start=$SECONDS passed
    while kill -0 "$1" 2>/dev/null; do
        passed=$((SECONDS - start))
        if [ -t 1 ]; then
            printf '\r    %d s ' "$passed"
        elif [ "$passed" -gt 0 ] && [ $((passed % 20)) = 0 ]; then
            note "still at it after $passed s"
            sleep 0.8
        fi
        sleep 0.2
    done
    [ ! -t 1 ] || printf '\r          \r'
}

# Of these Debian packages, those that are not installed.
missing_packages() {
    local package
    for package; do
        [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || printf '%s\n' "$package"
    done
}

apt_get() { DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 "$@"; }

# need_packages WHY PACKAGE...: install what is missing, or, without the right to, say how.
need_packages() {
    local why=$1 missing
    shift
    command -v apt-get >/dev/null || die "this needs Debian's apt-get, which is not here" "install by other means: $*"
    mapfile -t missing < <(missing_packages "$@")
    [ ${#missing[@]} != 0 ] || return 0
    is_root || die "Debian packages are missing: ${missing[*]}" "as root: apt-get install --no-install-recommends ${missing[*]}"
    if ! apt_get --simulate --no-install-recommends install "${missing[@]}" >/dev/null 2>&1; then
        update_package_lists
    fi
    quietly "Installing packages $why: ${missing[*]}" apt_get --no-install-recommends install "${missing[@]}" && return
    # Package lists older than the archive name files that are no longer there.
    update_package_lists
    quietly "Installing them again" apt_get --no-install-recommends install "${missing[@]}" ||
        die "apt-get could not install ${missing[*]}" "look at the lines above: no network, or a broken package?"
}

POLICY=/usr/sbin/policy-rc.d

# need_unstarted: RabbitMQ, sanlock and the kernel's NFS server, of which the tests run some of their own; Debian's
# services neither start now nor at a boot. One that was there before is left as it is.
need_unstarted() {
    local missing package unit units=()
    mapfile -t missing < <(missing_packages rabbitmq-server erlang-base sanlock python3-sanlock nfs-kernel-server rpcbind)
    [ ${#missing[@]} != 0 ] || return 0
    for package in "${missing[@]}"; do
        case $package in
        rabbitmq-server) units+=(rabbitmq-server.service) ;;
        erlang-base) units+=(epmd.service epmd.socket) ;;
        sanlock) units+=(sanlock.service wdmd.service) ;;
        nfs-kernel-server) units+=(nfs-server.service) ;;
        rpcbind) units+=(rpcbind.service rpcbind.socket) ;;
        esac
    done
    (
        if is_root && [ ! -e "$POLICY" ]; then
            trap 'rm -f "$POLICY"' EXIT
            printf '#!/bin/sh\nexit 101\n' >"$POLICY"
            chmod 755 "$POLICY"
        fi
        need_packages "for the tests' own broker, keeper of leases and file server" \
            rabbitmq-server sanlock python3-sanlock nfs-kernel-server
    ) || exit
    # Where somebody's own policy let them start after all.
    for unit in "${units[@]}"; do
        if [ -d /run/systemd/system ]; then
            systemctl --quiet stop "$unit" || true
        elif [ -x "/etc/init.d/${unit%.service}" ]; then
            service "${unit%.service}" stop >/dev/null 2>&1 || true
        fi
        ! command -v systemctl >/dev/null || systemctl --quiet disable "$unit" 2>/dev/null || true
    done
    # Even to stop RabbitMQ starts Erlang's name server, which stays; with nodes of anybody on it, it does not end.
    [[ " ${missing[*]} " != *" erlang-base "* ]] || epmd -kill >/dev/null 2>&1 || true
}

update_package_lists() {
    quietly "Fetching Debian's package lists" apt_get update ||
        die "apt-get update failed" "check the network and /etc/apt/sources.list*"
}

# ensure_venv run|dev: .venv with everything pinned, and vdsm itself in place ("editable"). The stamp in it says what
# it was made from, so that the next time costs nothing.
ensure_venv() { with_lock "$ROOT" refresh_venv "$1"; }

refresh_venv() {
    local profile=$1 stamp=$VENV/.stamp have=
    [ ! -e "$stamp" ] || have=$(<"$stamp")
    case $have in
    "dev $(venv_key)") ;;
    "run $(venv_key)") [ "$profile" = run ] || fill_venv dev ;;
    dev\ *) fill_venv dev ;; # it had the tools: keep them
    *) fill_venv "$profile" ;;
    esac
}

venv_key() {
    { printf '%s\n' "$ROOT"; "$PYTHON" --version; cat "$ROOT"/requirements*.txt "$ROOT/pyproject.toml"; } 2>&1 | sha256sum | cut -c1-64
}

# Made by the system's Python, and for this place: its scripts carry the path.
venv_is_sound() {
    [ -x "$VENV/bin/pip" ] && head -n 1 "$VENV/bin/pip" | grep -qF "$VENV/bin/" &&
        [ "$("$VENV/bin/python" -c 'import sys; print(sys.base_prefix, *sys.version_info)' 2>/dev/null)" = \
            "$("$PYTHON" -c 'import sys; print(sys.base_prefix, *sys.version_info)')" ]
}

fill_venv() {
    local profile=$1 requirements=$ROOT/requirements.txt
    [ "$profile" = run ] || requirements=$ROOT/requirements-dev.txt
    need_packages "for a Python environment" "${PYTHON_PACKAGES[@]}" "${BUILD_PACKAGES[@]}"
    "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        die "$PYTHON is older than 3.11" "use Debian 12 or newer"
    rm -f "$VENV/.stamp"
    if ! venv_is_sound; then
        rm -rf "$VENV"
        quietly "Making a Python environment in .venv" "$PYTHON" -m venv "$VENV" || die "could not make $VENV"
    fi
    quietly "Installing the pinned Python packages (three are compiled; about a minute)" \
        install_pins "$requirements" || die "pip could not install the pinned packages" "is there a network?"
    printf '%s %s\n' "$profile" "$(venv_key)" >"$VENV/.stamp"
}

# Isolation off: pip would fetch build tools of its own choice, unpinned, for each source package.
install_pins() {
    "$VENV/bin/pip" install --disable-pip-version-check --require-hashes -r "$ROOT/requirements-build.txt" &&
        "$VENV/bin/pip" install --disable-pip-version-check --require-hashes --no-build-isolation -r "$1" &&
        "$VENV/bin/pip" install --disable-pip-version-check --no-deps --no-build-isolation -e "$ROOT"
}

# What the scripts start they note, so that only that is stopped again. A process is its id and the moment it began:
# ids are used again.
book() { echo "$(state_dir)/scripts"; }

# Nothing for a process that has ended and only waits for its parent to take note, which not every container's does.
birth() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | awk '$1 != "Z" { print $20 }'; }

note_started() {
    mkdir -p "$(book)"
    printf '%s %s\n' "$2" "$(birth "$2")" >"$(book)/$1"
}

# started NAME: the id of that process if it was noted and still runs.
started() {
    local pid born
    { read -r pid born <"$(book)/$1"; } 2>/dev/null || return 1
    [ -n "$born" ] && [ "$(birth "$pid")" = "$born" ] && echo "$pid"
}

# stop_started NAME [SECONDS]: ask it to end and wait for that.
stop_started() {
    local pid patience=${2:-30} waited=0
    if pid=$(started "$1"); then
        kill -TERM "$pid" 2>/dev/null || true
        while started "$1" >/dev/null; do
            [ "$waited" -lt $((patience * 5)) ] || die "$1 (process $pid) did not end within $patience s" "see its log"
            sleep 0.2
            waited=$((waited + 1))
        done
    fi
    rm -f "$(book)/$1"
}

libvirt_uri() { if is_root; then echo qemu:///system; else echo qemu:///session; fi; }

libvirt_answers() { timeout 30 virsh -c "$(libvirt_uri)" version >/dev/null 2>&1 9<&-; }

# libvirtd, started if none answers: by systemd where it rules, else by hand. A user's own libvirtd starts by itself.
ensure_libvirt() {
    open_kvm
    libvirt_answers && return
    if ! is_root; then
        wait_for_libvirt "see what \`virsh -c qemu:///session version\` says"
        return
    fi
    say "Starting libvirtd: none answers here"
    if [ -d /run/systemd/system ]; then
        systemctl start libvirtd || die "systemd could not start libvirtd" "see: journalctl -u libvirtd"
        mkdir -p "$(book)" && echo libvirtd >"$(book)/libvirtd.service"
    else
        install -d -m 1777 /run/lock # where libvirt locks serial consoles; at a boot systemd makes it
        start_by_hand virtlogd
        start_by_hand libvirtd
    fi
    wait_for_libvirt "see /var/log/libvirt/libvirtd.log"
}

wait_for_libvirt() {
    local until=$((SECONDS + 120))
    until libvirt_answers; do
        [ "$SECONDS" -lt "$until" ] || die "libvirt does not answer on $(libvirt_uri)" "$1"
        sleep 0.5
    done
}

# What udev's rule does where udev runs. With the device left to root alone, libvirt 9 finds KVM when it asks QEMU and
# not when it looks by itself, and so asks every QEMU again for each machine it defines: 20 s each time.
open_kvm() {
    is_root && [ -c /dev/kvm ] && getent group kvm >/dev/null && [ "$(stat -c %G:%a /dev/kvm)" = root:600 ] || return 0
    say "Opening /dev/kvm to the group kvm: no udev has done it"
    { chgrp kvm /dev/kvm && chmod 660 /dev/kvm; } || say "It stays closed: guests run on QEMU's translator, slowly"
}

# One that runs already keeps its pid file locked and makes this fail, which is fine.
start_by_hand() {
    "$1" -d >/dev/null 2>&1 9<&- || return 0
    note_started "$1" "$(cat "/run/$1.pid")"
}

# The libvirtd that ensure_libvirt started, unless a machine of whomever runs on it.
stop_libvirt() {
    [ -e "$(book)/libvirtd.service" ] || started libvirtd >/dev/null || return 0
    if [ -n "$(virsh -c qemu:///system list --name 2>/dev/null)" ]; then
        note "libvirtd runs on: there are other machines on it"
        return
    fi
    if [ -e "$(book)/libvirtd.service" ]; then
        systemctl stop libvirtd.socket libvirtd-ro.socket libvirtd-admin.socket libvirtd
        rm -f "$(book)/libvirtd.service"
    else
        stop_started libvirtd
        stop_started virtlogd
    fi
    note "libvirtd stopped"
}
