#!/usr/bin/env bash
# Runs a command as on a machine that has Python, make and a base system, and nothing else: `scripts/as_bare_machine.sh make demo`.
# Every other program is hidden, and so are graphics drivers; what is installed stays untouched. Python is `$PYTHON`, or `python3`.
set -euo pipefail

VISIBLE=(
    make bash sh env
    basename cat chmod chown cp cut date dd df dirname du echo expr false find grep head hostname id kill link ln ls mkdir mkfifo
    mktemp mv nice nohup printenv printf ps pwd readlink realpath rm rmdir sed seq sleep sort stat sync tail tar tee test timeout
    touch tr true truncate tty uname uniq wc which whoami xargs yes
)

bin=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/test_artifacts/bare_machine
mkdir -p "$bin"
for name in "${VISIBLE[@]}"; do
    if program=$(type -P "$name"); then ln -sf "$program" "$bin/$name"; fi
done
# Not a link: an environment that is made with Python remembers where Python was called.
python=$("${PYTHON:-python3}" -c 'import sys; print(sys.executable)')
printf '#!/bin/sh\nexec "%s" "$@"\n' "$python" >"$bin/python3.$$"
chmod +x "$bin/python3.$$"
mv "$bin/python3.$$" "$bin/python3"

hidden=(VK_ICD_FILENAMES=/hidden.json VK_DRIVER_FILES=/hidden.json DISPLAY= WAYLAND_DISPLAY=)
exec env -u THESIS_ASSETS_REQUIRE_SERVICES "${hidden[@]}" PATH="$bin" "$@"
