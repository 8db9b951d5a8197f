#!/usr/bin/env bash
# Under eventlet's patches os.wait() sees only children of the caller's process group: one that has called setsid() is "no child".
#
# wait(2) is waitpid(-1): any child. eventlet's os.wait() calls waitpid(0), which means "of my process group". The usual way to
# start a daemon (fork, setsid in the child, fork again, wait for the first) raises ChildProcessError and leaves a zombie;
# os.waitpid(pid) works.
#
# Seen with: eventlet 0.41.3, greenlet 3.5.6, CPython 3.11.7, on 2026-12-01.
set -euo pipefail
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT && cd "$dir"
python3 -m venv venv && venv/bin/pip install --quiet --disable-pip-version-check eventlet==0.41.3 greenlet==3.5.6
cat > daemon.py <<'PY'
import sys, warnings

warnings.simplefilter("ignore")
if sys.argv[1] == "eventlet":
    import eventlet
    eventlet.monkey_patch()
import os

def start(in_group):
    child = os.fork()
    if child == 0:
        if not in_group:
            os.setsid()
        os._exit(7)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)  # it has ended, and nobody has reaped it
    try:
        pid, status = os.wait()
        return f"exit code {os.waitstatus_to_exitcode(status)}"
    except ChildProcessError:
        return "ChildProcessError"

print(sys.argv[1], "| in the group:", start(True), "| after setsid:", start(False))
PY
for way in plain eventlet; do venv/bin/python daemon.py $way; done > seen 2> errors || cat errors
cat seen
diff seen - <<'EOF' && echo "as found"
plain | in the group: exit code 7 | after setsid: exit code 7
eventlet | in the group: exit code 7 | after setsid: ChildProcessError
EOF
