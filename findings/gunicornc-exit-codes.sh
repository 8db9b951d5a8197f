#!/usr/bin/env bash
# gunicornc says "success": false and exits with 0; and a fleet that serves is shown as not booted.
#
# A deploy script that runs `gunicornc -c "worker kill 999" && next` goes on. An unknown command exits with 1, a known one
# that failed with 0. BOOTED stays "no" for workers that answer requests: the flag is set in the worker's copy of the object
# after the fork, and the control server reads the arbiter's.
#
# Seen with: gunicorn 27.0.1, CPython 3.11.7, on 2026-12-01.
set -euo pipefail
dir=$(mktemp -d) && trap 'kill "${server:-0}" 2>/dev/null; wait; rm -rf "$dir"' EXIT && cd "$dir"
python3 -m venv venv && venv/bin/pip install --quiet --disable-pip-version-check gunicorn==27.0.1

cat > app.py <<'PY'
def app(environ, start_response):
    start_response("200 OK", [])
    return [b"served"]
PY
venv/bin/gunicorn --bind unix:web.sock --control-socket "$dir/control.sock" --workers 2 --log-level error app:app &
server=$!
for _ in $(seq 100); do
  venv/bin/python - <<'PY' && break || sleep 0.1
import socket
client = socket.socket(socket.AF_UNIX)
client.connect("web.sock")
client.sendall(b"GET / HTTP/1.0\r\n\r\n")
assert b"served" in b"".join(iter(lambda: client.recv(4096), b""))
PY
done 2> /dev/null
ask() { code=0; venv/bin/gunicornc -s "$dir/control.sock" "$@" > answer 2>&1 || code=$?; }
{
  ask -j -c "show workers"
  echo "booted, of two that serve: $(grep -c '"booted": true' answer || true)"
  ask -j -c "worker kill 999999999"
  echo "no such worker: $(grep -o '"success": [a-z]*' answer), exit code $code"
  ask -c "no-such-command"
  echo "no such command: exit code $code"
} > seen
cat seen
diff seen - <<'EOF' && echo "as found"
booted, of two that serve: 0
no such worker: "success": false, exit code 0
no such command: exit code 1
EOF
