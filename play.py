"""A page in the browser: edit facts of a model and ask it, in text and about pictures.

    python play.py                    http://127.0.0.1:8501, for this machine alone
    python play.py --port 9000
    python play.py --host 0.0.0.0     for everyone who reaches this machine

It works without a network, and nothing is sent anywhere. docs/play.md shows the page.
"""

import argparse
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path

from errors import ConfigError, exit_status

APP = Path(__file__).resolve().parent / "playground" / "app.py"
LOOPBACK = "127.0.0.1"
# Streamlit's own settings; what is typed for it, or stands in a file of the user, does not count.
SETTINGS = {
    "browser.gatherUsageStats": "false",  # nothing is sent to its makers
    "server.headless": "true",  # no browser is started, and no e-mail address asked for
    "server.fileWatcherType": "none",
    "server.maxUploadSize": "20",  # MB
    "client.toolbarMode": "minimal",
    "global.developmentMode": "false",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Serves the page until it is stopped.

    Returns:
        Exit code: 0, or 2 after an error that the user can fix.
    """
    options = _parser().parse_args(arguments)
    return exit_status(lambda: serve(options.host, options.port))


def serve(host: str, port: int) -> int:
    """Serves the page.

    Raises:
        ConfigError: Streamlit is not installed.
    """
    if find_spec("streamlit") is None:
        raise ConfigError(
            "the page needs Streamlit, which the extra `play` brings: "
            "pip install -c constraints.txt -e '.[play]'"
        )
    if not _is_loopback(host):
        print(
            f"warning: --host {host} opens the page to everyone who reaches this machine. It has "
            "no password: whoever opens it can use the model and name files of yours as "
            "checkpoints.",
            file=sys.stderr,
        )
    from streamlit.web.cli import main as streamlit

    place = {"server.address": host, "server.port": str(port)}
    flags = [f"--{key}={value}" for key, value in (SETTINGS | place).items()]
    streamlit(["run", str(APP), *flags], standalone_mode=False)
    return 0


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _parser() -> argparse.ArgumentParser:
    description, _, examples = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="play.py",
        description=description,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--host", default=LOOPBACK, help=f"where it listens ({LOOPBACK})")
    parser.add_argument("--port", type=int, default=8501, help="where it listens (8501)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
