"""Attaches one VM after the other: `python looping.py ARGUMENT…` runs the program with these words for each of the
words that come on stdin, put in the place of "{}", and prints its last line, or "failed"."""

from __future__ import annotations

import io
import sys
from contextlib import redirect_stdout

from kubectl_yoshi.__main__ import run

arguments = sys.argv[1:]
for line in sys.stdin:
    told = io.StringIO()
    with redirect_stdout(told):
        code = run([word.replace("{}", line.strip()) for word in arguments], "kubectl yoshi")
    print("failed" if code else told.getvalue().splitlines()[-1], flush=True)
