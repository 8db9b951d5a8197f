#!/usr/bin/env bash
# gevent: to patch the standard library reads the entry points of every installed package 25 times.
#
# monkey.patch_all() tells of each of its steps, and at each one asks importlib.metadata for packages that want to be told. There
# is no cache in between: each time the metadata of all packages of the environment is read from disk. In an environment of
# a hundred packages that is a third of a second for each process that patches, such as each worker of a server.
#
# Seen with: gevent 26.9.0, greenlet 3.5.6, CPython 3.11.7, on 2026-12-01.
set -euo pipefail
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT && cd "$dir"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check gevent==26.9.0 greenlet==3.5.6

cat > patch.py <<'PY'
from importlib import metadata

asked, real = 0, metadata.entry_points

def counted(**names):
    global asked
    asked += 1
    return real(**names)

metadata.entry_points = counted
from gevent import monkey

before = asked
monkey.patch_all()
print(f"entry_points() was called {asked - before} times")
PY
venv/bin/python patch.py > seen
cat seen
diff seen - <<'EOF' && echo "as found"
entry_points() was called 25 times
EOF
