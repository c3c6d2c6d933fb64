"""Runs a command as a user would who is not root: python tests/odd/bound.py FOLDER SCRIPT OPTIONS.

The command starts in FOLDER, and permission bits count for it whoever runs the tests: root is bound
by them too once it has given up two of its capabilities.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import runpy
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_VERSION = 0x20080522  # of the kernel's capability sets
_IGNORES_PERMISSIONS = 0b110  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Set(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint32) for name in ("effective", "permitted", "inheritable"))


def obey_permissions() -> bool:
    """Gives up what lets root read and write everything; whether permission bits count now."""
    if os.geteuid() != 0:
        return True
    kernel, header, sets = ctypes.CDLL(None), _Header(_VERSION, 0), (_Set * 2)()
    if kernel.capget(ctypes.byref(header), sets):
        return False
    for name in ("effective", "permitted"):
        setattr(sets[0], name, getattr(sets[0], name) & ~_IGNORES_PERMISSIONS)
    return not kernel.capset(ctypes.byref(header), sets)


def main() -> None:
    folder, script, *options = sys.argv[1:]
    obey_permissions()
    os.chdir(folder)
    sys.path[0] = str(ROOT)
    status: object = 0
    try:
        if script == "-m":
            sys.argv = options
            runpy.run_module(options[0], run_name="__main__", alter_sys=True)
        else:
            sys.argv = [str(ROOT / script), *options]
            runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as ended:
        status = ended.code
    end(status)


def end(status: object) -> None:
    """Ends as the interpreter does, but for taking apart every library that was loaded."""
    if isinstance(status, str):
        print(status, file=sys.stderr)
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status if isinstance(status, int) else int(status is not None))


if __name__ == "__main__":
    main()
