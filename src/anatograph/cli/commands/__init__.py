"""All commands, in the order of the help; how to add one stands at the top of `anatograph.cli.command`."""

from __future__ import annotations

from anatograph.cli.command import Command
from anatograph.cli.commands.analysis import Audit, Benchmark, Densitometry, Evaluate, Predict
from anatograph.cli.commands.embedding import Embed, Pool
from anatograph.cli.commands.exchange import Export, ExportImages
from anatograph.cli.commands.explanation import Change, Deviation, Explain, Reference, Similar
from anatograph.cli.commands.inputs import Atlas, Cohort, Phantom
from anatograph.cli.commands.models import Models, Pull, Push
from anatograph.cli.commands.preprocessing import Cluster, Preprocess
from anatograph.cli.commands.reporting import Qc, Report
from anatograph.cli.commands.service import Serve
from anatograph.cli.commands.start import Demo, Doctor
from anatograph.cli.commands.training import ImportReference, Pretrain

COMMANDS: tuple[type[Command], ...] = (
    Demo,
    Doctor,
    Phantom,
    Atlas,
    Preprocess,
    Cluster,
    Qc,
    Pretrain,
    Embed,
    Pool,
    Evaluate,
    Audit,
    Predict,
    Benchmark,
    Densitometry,
    Cohort,
    Explain,
    Reference,
    Deviation,
    Similar,
    Change,
    Report,
    Export,
    ExportImages,
    Serve,
    Models,
    Pull,
    Push,
    ImportReference,
)

__all__ = ["COMMANDS"]
