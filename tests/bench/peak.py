"""Runs a command and writes down its time, its CPU and the most memory it had: `python -I -S peak.py FILE COMMAND…`

A program of its own, small on purpose: Linux counts for a child also what its parent had when it was started.
"""

import json
import os
import sys
import time

report, command = sys.argv[1], sys.argv[2:]
start = time.perf_counter()
child = os.posix_spawn(command[0], command, os.environ)
_, status, usage = os.wait4(child, 0)
seconds = time.perf_counter() - start
with open(report, "w") as file:  # noqa: PTH123 - pathlib would be most of this program's memory
    cpu = usage.ru_utime + usage.ru_stime
    json.dump({"milliseconds": seconds * 1000, "cpu": cpu * 1000, "mebibytes": usage.ru_maxrss / 1024}, file)
sys.exit(os.waitstatus_to_exitcode(status))
