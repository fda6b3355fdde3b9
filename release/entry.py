"""The entry point of the program in an archive."""

import os
import sys


def own_environment() -> None:
    """Remove what the archive's loader added to the environment.

    It points LD_LIBRARY_PATH to the archive's own libraries, and a credential plugin or a diff program that we start
    would load those in the place of its own. What it was before is in LD_LIBRARY_PATH_ORIG
    (https://pyinstaller.org/en/stable/runtime-information.html#ld-library-path-libpath-considerations).
    """
    for name in ("LD_LIBRARY_PATH", "LIBPATH"):
        before = os.environ.pop(f"{name}_ORIG", None)
        if before is not None:
            os.environ[name] = before
        elif name in os.environ and os.environ[name].startswith(getattr(sys, "_MEIPASS", "\0")):
            del os.environ[name]
    for name in [name for name in os.environ if name.startswith("_PYI_")]:
        del os.environ[name]


if __name__ == "__main__":
    own_environment()
    from kubectl_yoshi.__main__ import main

    main()
