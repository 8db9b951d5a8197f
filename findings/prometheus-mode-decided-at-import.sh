#!/usr/bin/env bash
# prometheus_client decides for or against its multiprocess mode when it is imported, and says nothing about it.
#
# The hook that its documentation gives for pre-fork servers imports `multiprocess` and calls mark_process_dead(pid) in the
# parent. If PROMETHEUS_MULTIPROC_DIR reaches the workers only (a server's setting for their environment), then the call
# raises, and the import alone has fixed the mode: whoever is forked afterwards has the variable, counts in its own memory,
# and writes no file. All numbers are then those of whichever worker is asked.
#
# Seen with: prometheus-client 0.26.0, CPython 3.11.7, on 2026-12-01.
set -euo pipefail
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT && cd "$dir"
python3 -m venv venv && venv/bin/pip install --quiet --disable-pip-version-check prometheus-client==0.26.0

cat > parent.py <<'PY'
import os, sys

def worker(name):
    os.makedirs(name)
    if os.fork() == 0:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = name
        from prometheus_client import Counter
        Counter("hits", "requests").inc()
        os._exit(0)
    os.wait()
    return len(os.listdir(name))

print("before the hook: files", worker("first"))
try:
    from prometheus_client import multiprocess  # as in a child_exit hook
    multiprocess.mark_process_dead(os.getpid())
except TypeError as error:
    print("the hook: TypeError")
print("after the hook: files", worker("second"))
PY
venv/bin/python parent.py > seen
cat seen
diff seen - <<'EOF' && echo "as found"
before the hook: files 1
the hook: TypeError
after the hook: files 0
EOF
