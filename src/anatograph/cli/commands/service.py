"""The command that answers over HTTP."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from anatograph.cli.command import Command, option
from anatograph.cli.output import DONE, say


@dataclass(frozen=True, kw_only=True)
class Serve(Command):
    """Embed scans over HTTP: one scan in; vector, quality and picture out."""

    page = "serve.md"
    model: Path | None = option(
        None, "model folder, such as RUN/model, or a release", unset="the model that ships", metavar="MODEL"
    )
    host: str = option("127.0.0.1", "address to listen on; there is no password and no encryption", metavar="ADDRESS")
    port: int = option(8080, "port; 0 takes a free one", metavar="PORT", minimum=0)
    workers: int = option(1, "processes, each with one scan at a time", metavar="N", minimum=1)
    max_megabytes: float = option(1000.0, "largest upload", metavar="MB")
    max_seconds: float = option(300.0, "longest upload, and longest time for a scan", metavar="SECONDS")

    def execute(self) -> int:
        """Serve until interrupted."""
        self.call(say=say)
        return DONE
