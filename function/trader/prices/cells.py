"""The rows of a price file in Excel's format or in Parquet, by the libraries that pandas uses for them.

They are part of the development requirements, not of the layer.
"""

import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date, time
from itertools import islice
from pathlib import Path

import pandas as pd

from trader.prices.faults import PriceFileError, name_some
from trader.prices.rows import CHUNK_FIELDS, HEAD_ROWS, MAX_CHARACTERS, HeadRow, Row, Rows

LIBRARIES = {".xlsx": "openpyxl", ".xlsm": "openpyxl", ".parquet": "pyarrow", ".pq": "pyarrow"}
"""The library for each ending of a file's name."""


class CellSource:
    """The rows of a sheet or of a Parquet file."""

    def __init__(self, path: Path) -> None:
        self._rows = _load(path)
        filled = ((row, fields) for row, fields in enumerate(self._make_rows()) if any(map(str.strip, fields)))
        self._head = [HeadRow(row=row, line=row + 1, fields=fields) for row, fields in islice(filled, HEAD_ROWS)]

    @property
    def head(self) -> Sequence[HeadRow]:
        """The first rows that are not blank."""
        return self._head

    @property
    def delimiter(self) -> str:
        """A comma, as if the cells were written as CSV."""
        return ","

    def read(self, after: HeadRow) -> Iterator[Rows]:
        """Yield all rows after the header's last one."""
        row = after.row + 1
        fields = islice(self._make_rows(), row, None)
        while rows := list(islice(fields, max(1, CHUNK_FIELDS // len(after.fields)))):
            yield Rows(first_row=row, rows=rows)
            row += len(rows)

    def lines_of(self, rows: Sequence[int]) -> Mapping[int, int]:
        """Return the number of each row, counted from 1."""
        return {row: row + 1 for row in rows}

    def _make_rows(self) -> Iterator[Row]:
        for cells in self._rows():
            yield list(map(_write, cells))


def _load(path: Path) -> Callable[[], Iterable[Sequence[object]]]:
    """Return a function that yields the cells of each row. Raises PriceFileError if the file cannot be read."""
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


def _load_workbook(path: Path) -> Callable[[], Iterable[Sequence[object]]]:
    with zipfile.ZipFile(path) as archive:
        _check_size(path, sum(part.file_size for part in archive.infolist()))
    sheets = pd.read_excel(path, sheet_name=None, header=None, dtype=object, na_filter=False, engine="openpyxl")
    filled = {name: sheet for name, sheet in sheets.items() if not sheet.empty}
    if len(filled) > 1:
        names = name_some(map(str, filled))
        raise PriceFileError(f"price file {path} has {len(filled)} sheets ({names}); keep the one with the prices")
    (sheet,) = filled.values() or [pd.DataFrame()]
    return lambda: sheet.itertuples(index=False, name=None)


def _load_parquet(path: Path) -> Callable[[], Iterable[Sequence[object]]]:
    from pyarrow import parquet

    about = parquet.read_metadata(path)
    of_groups = sum(about.row_group(number).total_byte_size for number in range(about.num_row_groups))
    _check_size(path, max(of_groups, about.num_rows * about.num_columns))
    table = pd.read_parquet(path, engine="pyarrow")
    return lambda: _write_table(table)


def _check_size(path: Path, size: int) -> None:
    if size > MAX_CHARACTERS:
        raise PriceFileError(f"price file {path} has more than {MAX_CHARACTERS:,} characters; use a smaller file")


def _write_table(table: pd.DataFrame) -> Iterator[Sequence[object]]:
    """Yield the rows of a table as pandas writes them to CSV: the header of all levels, then the data."""
    index, columns = table.index, table.columns
    has_index = not isinstance(index, pd.RangeIndex) or index.name is not None
    names = list(index.names) if has_index else []
    for level in range(columns.nlevels):
        titles = [columns.names[level], *[None] * (len(names) - 1)] if names and columns.nlevels > 1 else names
        yield [*titles, *columns.get_level_values(level)]
    if names and columns.nlevels > 1:
        yield [*names, *[None] * len(columns)]
    step = max(1, CHUNK_FIELDS // (len(names) + len(columns) or 1))
    for first in range(0, len(table), step):
        part = table.iloc[first : first + step]
        cells = [part.index.get_level_values(level).tolist() for level in range(len(names))]
        cells += [part.iloc[:, column].tolist() for column in range(len(columns))]
        yield from zip(*cells, strict=True)


def _write(cell: object) -> str:
    """Return a cell as it would be written in CSV."""
    if isinstance(cell, str):
        return cell
    if cell is None or cell is pd.NaT or cell is pd.NA or cell != cell:  # NaN
        return ""
    return cell.isoformat() if isinstance(cell, date | time) else str(cell)
