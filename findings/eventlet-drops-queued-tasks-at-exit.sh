#!/usr/bin/env bash
# eventlet: what an executor has queued, and what threads are still doing, is dropped without a word when the program ends.
#
# Python waits at its end for threads that are no daemons, and for what executors were given (threading._shutdown). eventlet's
# patches put a `_shutdown` into the module `threading` that looks at variables of another copy of the module, finds nobody to
# wait for, and returns at once. Besides, a thread that a green thread starts is a daemon. Without patches, and under gevent's,
# the same program finishes its work.
#
# Seen with: eventlet 0.41.3, gevent 26.9.0, greenlet 3.5.6, CPython 3.11.7, on 2026-12-01.
set -euo pipefail
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT && cd "$dir"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check eventlet==0.41.3 gevent==26.9.0 greenlet==3.5.6

cat > program.py <<'PY'
import sys

which = sys.argv[1]
if which == "eventlet":
    import eventlet

    eventlet.monkey_patch()
elif which == "gevent":
    from gevent import monkey

    monkey.patch_all()
import concurrent.futures, threading, time

done = []
pool = concurrent.futures.ThreadPoolExecutor(1)

def work(name):
    time.sleep(0.1)
    print(f"  {name}", flush=True)

def request():
    pool.submit(work, "first task")
    pool.submit(work, "second task")
    threading.Thread(target=work, args=("thread",), daemon=False).start()

if which == "eventlet":
    eventlet.spawn(request).wait()
else:
    request()
print(f"{which}: the program ends", flush=True)
PY
for which in python gevent eventlet; do venv/bin/python -W ignore program.py "$which" > out; head -1 out; tail -n +2 out | sort; done > seen
cat seen
diff seen - <<'EOF' && echo "as found"
python: the program ends
  first task
  second task
  thread
gevent: the program ends
  first task
  second task
  thread
eventlet: the program ends
EOF
