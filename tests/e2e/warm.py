"""Runs commands in copies of a process that has imported the libraries and the project already.

Loading torch, lightning and transformers takes most of the time of a short command. This process
does it once; each request is a fork of it, which runs the script as `python SCRIPT OPTIONS` would:
its own `__main__`, arguments, environment, working directory and output, and its own end. Nothing
is computed before the fork. Requests are JSON lines on stdin; stdout says the number of the
process, which leads a group of its own, and, once it has ended, its exit status.
"""

from __future__ import annotations

import gc
import json
import os
import runpy
import signal
import sys
from typing import Any

HEAVY = (
    "PIL.BmpImagePlugin", "PIL.GifImagePlugin", "PIL.JpegImagePlugin", "PIL.PpmImagePlugin",
    "datasets", "fontTools.subset", "lightning", "matplotlib.backends.backend_agg",
    "matplotlib.backends.backend_pdf", "matplotlib.figure", "pandas", "sentence_transformers",
    "torchmetrics", "transformers", "transformers.models.blip_2.modeling_blip_2",
    "transformers.models.llava.modeling_llava", "transformers.models.opt.modeling_opt",
)  # fmt: skip
# Of the project what most commands load.
PROJECT = (
    "analysis.commands", "configs.launch", "editors.ft", "editors.mend", "editors.none",
    "pretraining.run",
    "datamodules.sources.folder", "datamodules.sources.tmke", "datamodules.sources.world",
    "lightning_modules.evaluation", "lightning_modules.mend", "loggers.run_loggers",
    "loggers.wandb_results",
    "reporting.console", "reporting.document", "reporting.figures", "reporting.paper",
    "reporting.tables", "runner.callbacks", "runner.continuing", "runner.evaluating",
    "runner.start", "runner.training",
)  # fmt: skip


def serve() -> None:
    """Answers requests until stdin ends; in a child, runs the command and returns."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library says when it is imported is no answer
    sys.path[0] = os.getcwd()
    for name in (*HEAVY, *PROJECT):
        __import__(name)
    sys.stdout.flush()  # or every child would say it once more
    gc.freeze()  # a collection in a child would copy all of it
    for line in sys.stdin:
        request = json.loads(line)
        pid = os.fork()
        if pid == 0:
            become(request)
            return
        print(pid, file=answers, flush=True)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), file=answers, flush=True)


def become(request: dict[str, Any]) -> None:
    """Runs the command of a request in this process."""
    os.dup2(os.open(request.get("stdin", os.devnull), os.O_RDONLY), 0)
    for stream, path in enumerate(request["streams"], start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the tests may run in the background
    os.environ.clear()
    os.environ.update(request["environment"])
    script, *options = request["command"]
    if script == "-m":
        sys.path[0] = os.getcwd()  # as the interpreter sets it, here and below
        sys.argv = options
        runpy.run_module(options[0], run_name="__main__", alter_sys=True)
        return
    sys.argv = [script, *options]
    sys.path[0] = os.path.dirname(os.path.abspath(script))
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    serve()
