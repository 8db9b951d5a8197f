#!/usr/bin/env bash
# watchfiles is silent when a watched symbolic link is replaced by one to another place: a deployment by `current -> release`.
#
# The link is followed once, when the watch begins, and the inode behind it is watched; replacing the link (rename(2), as
# `ln -sfn` and Capistrano-like tools do) changes neither. Afterwards the watch goes on to report the old release, and nothing
# of the new one, under the name of the link. Watching the folder that holds the link reports the swap.
#
# Seen with: watchfiles 1.3.0 (inotify), CPython 3.11.7, Linux 6.18, on 2026-12-01.
set -euo pipefail
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT && cd "$dir"
python3 -m venv venv && venv/bin/pip install --quiet --disable-pip-version-check watchfiles==1.3.0

mkdir -p site/old site/new && echo 1 > site/old/app.py && echo 2 > site/new/app.py
cat > look.py <<'PY'
import os, pathlib, threading, time
from watchfiles import watch

def watched(path, *changes):
    """What is reported after each change within two seconds."""
    stop, reported = threading.Event(), []
    def run():
        for batch in watch(path, stop_event=stop, rust_timeout=200, debounce=100, step=50, recursive=True):
            reported.extend(batch)
    thread = threading.Thread(target=run)
    thread.start()
    time.sleep(1)
    seen = []
    for change in changes:
        before = len(reported)
        change()
        time.sleep(2)
        seen.append(sorted({os.path.relpath(name, "site") for _, name in reported[before:]}))
    stop.set()
    thread.join()
    return seen

def point(target):
    os.symlink(target, "site/next")
    os.replace("site/next", "site/current")

def append(path):
    with pathlib.Path(path).open("a") as file:
        file.write("#\n")

point("old")
print("the link is watched:  ", watched("site/current", lambda: point("new"), lambda: append("site/new/app.py"), lambda: append("site/old/app.py")))
point("old")
print("its folder is watched:", [[name for name in names if name == "current"] for names in watched("site", lambda: point("new"))])
PY
venv/bin/python look.py > seen
cat seen
diff seen - <<'EOF' && echo "as found"
the link is watched:   [[], [], ['current/app.py']]
its folder is watched: [['current']]
EOF
