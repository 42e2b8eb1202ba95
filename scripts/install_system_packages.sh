#!/usr/bin/env bash
# Installs, on Debian and Ubuntu, the system programs that `make` and the tests use and that are not there yet.
# Does nothing where all are there; says what is missing where it may not install. Safe to run again.
set -euo pipefail

missing=()
needs() { # a Debian package, and a command that succeeds where it is there
    local package=$1
    shift
    "$@" >/dev/null 2>&1 || missing+=("$package")
}

# Everybody's.
needs make command -v make
needs git command -v git
needs python3 command -v python3
needs python3-venv python3 -c 'import ensurepip, venv'
needs ffmpeg command -v ffmpeg # videos beside the evaluated views
# Pictures of recordings without a GPU or a screen.
needs mesa-vulkan-drivers sh -c 'ls /usr/share/vulkan/icd.d/*.json'
# The tests' own services: a cluster, a database, a browser, a proxy.
needs slurmctld test -x /usr/sbin/slurmctld
needs slurmd test -x /usr/sbin/slurmd
needs slurm-client command -v sbatch
needs munge test -x /usr/sbin/munged
needs postgresql sh -c 'ls /usr/lib/postgresql/*/bin/initdb'
needs chromium command -v chromium
needs nginx-light command -v nginx
needs openssl command -v openssl
needs fonts-dejavu-core test -d /usr/share/fonts/truetype/dejavu

if [ ${#missing[@]} -eq 0 ]; then
    echo "System packages: all are there."
    exit 0
fi
if ! command -v apt-get >/dev/null || [ "$(id -u)" -ne 0 ]; then
    echo "System packages: missing ${missing[*]}; install them with this system's package manager, or run this as root on Debian or Ubuntu." >&2
    exit 1
fi

export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null
echo "System packages: installed ${missing[*]}."
