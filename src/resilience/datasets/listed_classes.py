"""The classes that a network tells apart, in its order, where a dataset shows only some of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from resilience.data import DataError


def names_of(classes: Sequence[str] | str) -> tuple[str, ...]:
    """The names of all classes, in their order.

    Parameters
    ----------
    classes
        The names, or the path of a text file, UTF-8, with a name on each line.

    Raises
    ------
    DataError
        If the file cannot be read, has an empty line between others, or there are fewer than two names.
    """
    if not isinstance(classes, str):
        names, place = tuple(classes), "classes"
    else:
        try:
            lines = Path(classes).read_text(encoding="utf-8").rstrip().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{classes}: cannot be read; expected a text file, a class a line ({error})") from error
        names, place = tuple(line.strip() for line in lines), classes
    if "" in names:
        raise DataError(f"{place}: line {names.index('') + 1} is empty; expected the name of class {names.index('')}")
    if len(names) < 2:
        raise DataError(f"{place}: names {len(names)} classes; expected at least two")
    return names


def places_of(folders: Sequence[str], names: Sequence[str], where: Path) -> list[int]:
    """The class of each folder: the place of its name among those of all classes.

    Raises
    ------
    DataError
        If a folder has the name of no class, or of more than one.
    """
    times = Counter(names)
    for folder in folders:
        if times[folder] == 0:
            close = get_close_matches(folder, names, n=1)
            meant = f"; is it {close[0]}" + "?" if close else f", which begin with {', '.join(names[:3])}"
            raise DataError(f"{where / folder}: is none of the {len(names)} classes{meant}")
        if times[folder] > 1:
            found = [place for place, name in enumerate(names) if name == folder]
            raise DataError(
                f"{where / folder}: is the name of several classes, {', '.join(map(str, found))}; rename one of them in the "
                "list, and the folder like it"
            )
    return [names.index(folder) for folder in folders]
