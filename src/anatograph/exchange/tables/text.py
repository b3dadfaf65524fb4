"""CSV, and CSV with a script that reads it into R."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from anatograph.choices import TableLayout
from anatograph.exchange.tables.content import Content
from anatograph.exchange.tables.layouts import blocks
from anatograph.execution.files import whole_file, write_text


def write_csv(path: Path, tables: Iterable[pd.DataFrame]) -> dict[str, str]:
    """Write blocks of rows as one CSV (UTF-8) and return R's class of each column.

    Numbers are written with as many digits as it takes to read the same number back, missing values as empty cells.
    """
    kinds: dict[str, str] = {}
    with whole_file(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        for number, table in enumerate(tables):
            table.to_csv(file, index=False, header=number == 0, lineterminator="\n")
            kinds = kinds or {str(name): _r_class(table[name]) for name in table.columns}
    return kinds


def write_r(path: Path, content: Content, layout: TableLayout) -> list[Path]:
    """Write ``OUT.csv``, ``OUT.R`` and, where there are regions, ``OUT.landmarks.csv``; returns the files."""
    kinds = write_csv(path, blocks(content, layout))
    files = [path]
    if content.regions is not None:
        files.append(path.with_name(f"{path.stem}.landmarks.csv"))
        write_csv(files[-1], [content.landmarks])
    files.append(path.with_suffix(".R"))
    write_text(files[-1], _script(path.stem, kinds, content, has_landmarks=len(files) == 3))
    return files


def _r_class(column: pd.Series) -> str:
    if pd.api.types.is_bool_dtype(column.dropna().infer_objects()):
        return "logical"
    return "numeric" if pd.api.types.is_numeric_dtype(column) else "character"


def _script(stem: str, kinds: dict[str, str], content: Content, has_landmarks: bool) -> str:
    classes = ",\n".join(f"    {_quoted(name)} = {_quoted(kind)}" for name, kind in kinds.items())
    about = ",\n".join(f"    {_quoted(key)} = {_quoted(value)}" for key, value in content.metadata().items())
    logical = [name for name, kind in kinds.items() if kind == "logical"]
    lines = [
        f"# Reads the embeddings of {stem}.csv into base R; no packages are needed.",
        "#",
        f'#   source("{stem}.R")',
        "#   embeddings <- read_embeddings()        # or read_embeddings(FOLDER)",
        "#   embeddings$table                       # a data frame",
        "#   embeddings$features                    # a matrix, one row for each row of the table",
        "",
        'read_embeddings <- function(folder = ".") {',
        f"  classes <- c(\n{classes}\n  )",
        *(f'  classes[{_quoted(name)}] <- "character"  # written as True and False' for name in logical),
        f"  file <- file.path(folder, {_quoted(stem + '.csv')})",
        '  table <- read.csv(file, colClasses = classes, check.names = FALSE, na.strings = "",',
        '                    encoding = "UTF-8", quote = "\\"", comment.char = "")',
        *(f'  table[[{_quoted(name)}]] <- table[[{_quoted(name)}]] == "True"' for name in logical),
        '  features <- as.matrix(table[grepl("^feature_[0-9]+$", names(table))])',
        "  if (anyDuplicated(table$subject_id) == 0) rownames(features) <- table$subject_id",
        f"  about <- list(\n{about}\n  )",
        "  result <- list(table = table, features = features, about = about)",
    ]
    if has_landmarks:
        lines.append(f"  result$landmarks <- read.csv(file.path(folder, {_quoted(stem + '.landmarks.csv')}))")
    return "\n".join([*lines, "  result", "}", ""])


def _quoted(text: str) -> str:
    """An R string; backticks are not needed, as names of a vector may be strings."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ") + '"'
