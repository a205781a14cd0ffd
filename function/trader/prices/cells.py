"""The rows of a price file in Excel's format or in Parquet, by the libraries that pandas uses for them.

They are part of the development requirements, not of the layer.
"""

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

import pandas as pd

from trader.prices.faults import PriceFileError, name_some
from trader.prices.rows import CHUNK_FIELDS, HEAD_ROWS, MAX_CHARACTERS, Cells, HeadRow, Row, write_cell

LIBRARIES = {".xlsx": "openpyxl", ".xlsm": "openpyxl", ".parquet": "pyarrow", ".pq": "pyarrow"}
"""The library for each ending of a file's name."""


class CellSource:
    """The rows of a sheet or of a Parquet file."""

    def __init__(self, path: Path) -> None:
        self._table, self._header = _load(path)
        rows = chain(self._header, *(block.split().rows for block in self._slice(0, HEAD_ROWS)))
        filled = ((row, fields) for row, fields in enumerate(rows) if any(map(str.strip, fields)))
        self._head = [HeadRow(row=row, line=row + 1, fields=fields) for row, fields in filled]

    @property
    def head(self) -> Sequence[HeadRow]:
        """The first rows that are not blank."""
        return self._head

    @property
    def delimiter(self) -> str:
        """A comma, as if the cells were written as CSV."""
        return ","

    def read(self, after: HeadRow) -> Iterator[Cells]:
        """Yield all rows after the header's last one."""
        return self._slice(after.row + 1 - len(self._header), len(self._table))

    def lines_of(self, rows: Sequence[int]) -> Mapping[int, int]:
        """Return the number of each row, counted from 1."""
        return {row: row + 1 for row in rows}

    def _slice(self, first: int, until: int) -> Iterator[Cells]:
        """Yield the rows of the table from `first` on."""
        table = self._table
        step = max(1, CHUNK_FIELDS // max(1, table.shape[1]))
        for begin in range(first, min(until, len(table)), step):
            part = table.iloc[begin : min(begin + step, until)]
            columns = [part.iloc[:, column] for column in range(table.shape[1])]
            yield Cells(first_row=begin + len(self._header), columns=columns)


def _load(path: Path) -> tuple[pd.DataFrame, list[Row]]:
    """Return the cells, and the rows above them. Raises PriceFileError if the file cannot be read."""
    library = LIBRARIES[path.suffix.lower()]
    try:
        return _load_parquet(path) if library == "pyarrow" else _load_workbook(path)
    except PriceFileError:
        raise
    except ImportError as error:
        raise PriceFileError(
            f"price file {path} needs {library}, which is not installed here (it is no part of the layer for Lambda); "
            "save the file as CSV"
        ) from error
    except OSError as error:
        if error.strerror:
            remedy = "set PRICE_FILE to a file of prices"
            raise PriceFileError(f"price file {path}: {error.strerror}; {remedy}") from error
        raise _damaged(path, error) from error
    except Exception as error:  # the libraries raise errors of many kinds for files that are damaged
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> PriceFileError:
    what = f"is damaged, or not what {path.suffix} says ({type(error).__name__}: {error!s:.200})"
    return PriceFileError(f"price file {path} {what}; create or download it again")


def _load_workbook(path: Path) -> tuple[pd.DataFrame, list[Row]]:
    with zipfile.ZipFile(path) as archive:
        _check_size(path, sum(part.file_size for part in archive.infolist()))
    sheets = pd.read_excel(path, sheet_name=None, header=None, dtype=object, na_filter=False, engine="openpyxl")
    filled = {name: sheet for name, sheet in sheets.items() if not sheet.empty}
    if len(filled) > 1:
        names = name_some(map(str, filled))
        raise PriceFileError(f"price file {path} has {len(filled)} sheets ({names}); keep the one with the prices")
    return next(iter(filled.values()), pd.DataFrame()), []


def _load_parquet(path: Path) -> tuple[pd.DataFrame, list[Row]]:
    """Return a table with its index as its first columns, and its header as pandas writes it to CSV."""
    from pyarrow import parquet

    about = parquet.read_metadata(path)
    of_groups = sum(about.row_group(number).total_byte_size for number in range(about.num_row_groups))
    _check_size(path, max(of_groups, about.num_rows * about.num_columns))
    table = pd.read_parquet(path, engine="pyarrow")
    index, columns = table.index, table.columns
    names = [] if isinstance(index, pd.RangeIndex) and index.name is None else list(index.names)
    header = []
    for level in range(columns.nlevels):
        titles = [columns.names[level], *[None] * (len(names) - 1)] if names and columns.nlevels > 1 else names
        header.append([*titles, *columns.get_level_values(level)])
    if names and columns.nlevels > 1:
        header.append([*names, *[None] * len(columns)])
    levels = {place: index.get_level_values(place) for place in range(len(names))}
    table.columns = pd.RangeIndex(len(levels), len(levels) + len(columns))
    cells = pd.concat([pd.DataFrame(levels, index=index), table], axis=1).reset_index(drop=True)
    return cells, [list(map(write_cell, row)) for row in header]


def _check_size(path: Path, size: int) -> None:
    if size > MAX_CHARACTERS:
        raise PriceFileError(f"price file {path} has more than {MAX_CHARACTERS:,} characters; use a smaller file")
