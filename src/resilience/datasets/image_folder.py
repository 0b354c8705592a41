"""Datasets of one's own, as pictures in a folder; no file in it is trusted."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np

from resilience.catalog import entry
from resilience.data import DataError, Images, Source
from resilience.datasets.listed_classes import names_of, places_of
from resilience.parameters import ClassName, OwnFile, OwnFolder, Side

#: What the files of an image folder may be, by their content.
PICTURES = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
#: How Pillow calls pictures of 8 bits or fewer, which alone convert to grey or RGB without loss of range.
EIGHT_BITS = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"})


@entry(side="size")
def image_folder(
    *, folder: OwnFolder, size: Side, channels: Literal[1, 3] = 1, classes: list[ClassName] | OwnFile | None = None
) -> Source:
    """Pictures of your own, in ``train/{class}/`` and ``test/{class}/``: PNG, JPEG, BMP, TIFF or WebP of 8 bits.

    Parameters
    ----------
    folder
        Holds ``train`` and ``test``. The classes are called as the folders in these, sorted; there are at least two, the
        same in both parts, with two training pictures and one test picture or more. Names that start with a dot do not
        count. Each is turned upright as its EXIF tag says, and transparency shows white; of several frames the first
        counts, and colour profiles do not.
    size
        Height and width to which every picture is resized.
    channels
        1 for grey, 3 for RGB.
    classes
        All classes of the networks on these pictures, in their order, where the folders are only some of them: a list of
        names, or a text file with a name on each line. Every folder bears the name of one. Without it the folders are all
        classes there are.

    Raises
    ------
    DataError
        If a part or a class is missing or empty, a folder is none of the ``classes``, a file is no such picture or is too
        large to unpack safely, or a link leads out of the folder.
    """
    root = Path(folder)
    train, test = (_classes(root, root / part) for part in ("train", "test"))
    if list(train) != list(test):
        different = sorted(set(train) ^ set(test))[0]
        there, missing = ("train", "test") if different in train else ("test", "train")
        raise DataError(f"{root / missing / different}: is missing; {there} has a class of that name")
    if len(train) < 2:
        raise DataError(f"{root / 'train'}: has the classes {', '.join(train) or 'none'}; expected at least two folders")
    for name, files in train.items():
        if len(files) < 2:
            raise DataError(
                f"{root / 'train' / name}: has a single picture; expected at least two, to train and to validate"
            )
    names = names_of(classes) if classes else tuple(train)
    labels = places_of(list(train), names, root / "train")
    return Source(_pictures(train, labels, size, channels), _pictures(test, labels, size, channels), names)


def _classes(root: Path, part: Path) -> dict[str, list[Path]]:
    """The files of each class folder, both sorted by name."""
    found = {}
    for place in _inside(root, part):
        if not place.is_dir():
            raise DataError(f"{place}: lies beside the class folders; expected {part}/{{class}}/ with pictures")
        found[place.name] = list(_inside(root, place))
        if not found[place.name]:
            raise DataError(f"{place}: is empty; expected pictures of the class {place.name}")
    return found


def _inside(root: Path, place: Path) -> Iterator[Path]:
    """What lies in a folder below ``root``, sorted by name, as long as no link leads out of ``root``."""
    if not place.is_dir():
        raise DataError(f"{place}: is missing; expected a folder")
    for path in (place, *sorted(place.iterdir())):
        if not path.resolve().is_relative_to(root.resolve()):
            raise DataError(f"{path}: leads out of {root}, to {path.resolve()}; expected a file or folder that lies there")
        if path != place and not path.name.startswith("."):
            yield path


def _pictures(classes: dict[str, list[Path]], labels: list[int], size: int, channels: int) -> Images:
    x = [_picture(path, size, channels) for files in classes.values() for path in files]
    y = np.repeat(np.array(labels, np.int64), [len(files) for files in classes.values()])
    return Images(np.stack(x), y)


def _picture(path: Path, size: int, channels: int) -> np.ndarray:
    """A picture as uint8 [channels, size, size]."""
    from PIL import Image, ImageOps

    if not path.is_file():
        raise DataError(f"{path}: is no file; expected a picture")
    # Whatever Pillow raises while it reads, the file is not as it should be. It only warns of the smaller of the pictures
    # that would fill the memory once unpacked.
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(path, formats=PICTURES) as picture:
                if picture.mode not in EIGHT_BITS:
                    raise DataError(
                        f"{path}: is a picture of mode {picture.mode}; expected 8 bits a channel, grey or colour"
                    )
                shown = ImageOps.exif_transpose(picture)
                if shown.has_transparency_data:
                    # The colour behind transparency is whatever the program that wrote the file left there.
                    shown = Image.alpha_composite(Image.new("RGBA", shown.size, "white"), shown.convert("RGBA"))
                shown = shown.convert("L" if channels == 1 else "RGB")
        except DataError:
            raise
        except Exception as error:
            raise DataError(f"{path}: is no picture that can be read; expected {', '.join(PICTURES)} ({error})") from error
    pixels = np.asarray(shown.resize((size, size), Image.Resampling.BILINEAR))
    return np.ascontiguousarray(pixels.reshape(size, size, channels).transpose(2, 0, 1))
