#!/bin/sh
# Makes the virtual environment $1 with uv $2 in it, from nothing but a Python >= 3.11.
set -eu
venv=$1
uv_version=$2

clear=
if [ -d "$venv" ]; then
    if ! "$venv/bin/python" -c '' 2>/dev/null; then
        echo "The Python that $venv was made with is gone; making it anew." >&2
        clear=--clear
    elif [ -f "$venv/.folder" ] && [ "$(cat "$venv/.folder")" != "$(pwd -P)" ]; then
        echo "The project was moved; making $venv anew." >&2
        clear=--clear
    elif [ -x "$venv/bin/uv" ]; then
        printf "%s" "$(pwd -P)" > "$venv/.folder"
        exit 0
    fi
fi

python=
for candidate in ${PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11 python; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        python=$candidate
        break
    fi
done
if [ -z "$python" ]; then
    found=$(python3 --version 2>/dev/null || echo "no Python 3")
    echo "Segcore Studio needs Python 3.11 or newer; this machine offers $found." >&2
    echo "Install a newer Python, or name one: make install PYTHON=/path/to/python3.12" >&2
    exit 1
fi
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    minor=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    echo "$python cannot make virtual environments: its modules venv and ensurepip are missing." >&2
    echo "On Debian and Ubuntu: sudo apt install python$minor-venv. Or name another Python: make install PYTHON=..." >&2
    exit 1
fi
"$python" -m venv $clear "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check "uv==$uv_version"
printf "%s" "$(pwd -P)" > "$venv/.folder"
