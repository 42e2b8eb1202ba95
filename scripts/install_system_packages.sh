#!/usr/bin/env bash
# Installs, on Debian and Ubuntu, the system programs that `make` and the tests use and that are not there yet.
# Does nothing where all are there; says what is missing where it may not install. Safe to run again.
set -euo pipefail

missing=()
command -v make >/dev/null || missing+=(make)
command -v git >/dev/null || missing+=(git)
command -v python3 >/dev/null || missing+=(python3)
python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)

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
