"""Pictures that viewers show alike are read alike, whatever their files hold."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resilience.datasets.image_folder import image_folder

SHOWN = np.zeros((6, 4, 3), np.uint8)
SHOWN[:3, :2] = (255, 0, 0)
SHOWN[3:, 2:] = (0, 0, 255)
BLACK = SHOWN.sum(2) == 0


def palette() -> bytes:
    """The picture with a palette whose last colour, one that no viewer shows, stands for transparency."""
    seen = np.where(BLACK, 0, np.where(SHOWN[..., 0] > 0, 1, 2)).astype(np.uint8)
    picture = Image.fromarray(seen, "P")
    picture.putpalette([90, 90, 90, 255, 0, 0, 0, 0, 255])
    return saved(picture, "PNG", transparency=0)


def saved(picture: Image.Image, kind: str, **options: object) -> bytes:
    content = io.BytesIO()
    picture.save(content, kind, **options)
    return content.getvalue()


def turned(orientation: int, *turns: Image.Transpose) -> tuple[Image.Image, Image.Exif]:
    """The picture as a sensor saw it, and the EXIF tag by which a viewer turns it upright."""
    picture, exif = Image.fromarray(SHOWN), Image.Exif()
    for turn in turns:
        picture = picture.transpose(turn)
    exif[0x0112] = orientation
    return picture, exif


SIDEWAYS, TAG = turned(6, Image.Transpose.ROTATE_90)
MIRRORED, MIRROR_TAG = turned(2, Image.Transpose.FLIP_LEFT_RIGHT)
ON_WHITE = np.where(BLACK[..., None], np.uint8(255), SHOWN)
HIDDEN = np.dstack([np.where(BLACK[..., None], np.uint8(77), SHOWN), np.where(BLACK, 0, 255).astype(np.uint8)])
HALF = np.dstack([SHOWN * 0, np.full(SHOWN.shape[:2], 51, np.uint8)])
GREY_SHOWN = np.where(BLACK, np.uint8(40), np.uint8(200))

#: The same pictures as files of several kinds, each beside what every viewer shows.
VIEWED = {
    "PNG": (saved(Image.fromarray(SHOWN), "PNG"), SHOWN),
    "sideways PNG": (saved(SIDEWAYS, "PNG", exif=TAG), SHOWN),
    "sideways TIFF": (saved(SIDEWAYS, "TIFF", exif=TAG), SHOWN),
    "sideways WebP": (saved(SIDEWAYS, "WEBP", exif=TAG, lossless=True), SHOWN),
    "mirrored PNG": (saved(MIRRORED, "PNG", exif=MIRROR_TAG), SHOWN),
    "transparent": (saved(Image.fromarray(HIDDEN), "PNG"), ON_WHITE),
    "transparent WebP": (saved(Image.fromarray(HIDDEN), "WEBP", lossless=True), ON_WHITE),
    "transparent palette": (palette(), ON_WHITE),
    "transparent colour": (saved(Image.fromarray(SHOWN), "PNG", transparency=(0, 0, 0)), ON_WHITE),
    "a fifth of black": (saved(Image.fromarray(HALF), "PNG"), np.full_like(SHOWN, 204)),
    "transparent and sideways": (saved(Image.fromarray(np.rot90(HIDDEN)), "PNG", exif=TAG), ON_WHITE),
    "grey": (saved(Image.fromarray(GREY_SHOWN), "PNG"), np.dstack([GREY_SHOWN] * 3)),
    "transparent grey": (
        saved(Image.fromarray(np.dstack([GREY_SHOWN, np.where(BLACK, 0, 255).astype(np.uint8)])), "PNG"),
        np.dstack([np.where(BLACK, np.uint8(255), np.uint8(200))] * 3),
    ),
    "1 bit": (saved(Image.fromarray(BLACK), "PNG"), np.dstack([BLACK * np.uint8(255)] * 3)),
    "several frames": (
        saved(Image.fromarray(SHOWN), "TIFF", save_all=True, append_images=[Image.new("RGB", (4, 6), "green")]),
        SHOWN,
    ),
    "animated PNG": (
        saved(Image.fromarray(SHOWN), "PNG", save_all=True, append_images=[Image.new("RGB", (4, 6), "green")]),
        SHOWN,
    ),
}


def read_as(content: bytes, size: int, channels: int, folder: Path) -> np.ndarray:
    """What becomes of a picture, the first of a dataset."""
    for place in ("train/ape", "train/zebra", "test/ape", "test/zebra"):
        (folder / place).mkdir(parents=True, exist_ok=True)
        for name in ("0.PNG", "1.png"):
            (folder / place / name).write_bytes(content)
    return image_folder(folder=str(folder), size=size, channels=channels).train.x[0]


@pytest.mark.parametrize("kind", VIEWED)
def test_a_picture_is_read_as_a_viewer_shows_it(kind, tmp_path):
    content, shown = VIEWED[kind]
    for channels in (1, 3):
        read = read_as(content, 6, channels, tmp_path)
        wanted = Image.fromarray(shown).convert("L" if channels == 1 else "RGB")
        wanted = np.asarray(wanted.resize((6, 6), Image.Resampling.BILINEAR)).reshape(6, 6, channels)
        assert np.array_equal(read, wanted.transpose(2, 0, 1))


@pytest.mark.parametrize("kind", ["JPEG", "MPO"])
def test_a_photograph_is_read_upright(kind, tmp_path):
    """Phones write such files, some of them with a second picture inside; they lose a little, so the test allows for it."""
    photograph = np.kron(SHOWN, np.ones((16, 16, 1), np.uint8))
    more = {"save_all": True, "append_images": [Image.new("RGB", (8, 8))]} if kind == "MPO" else {}
    sensor = Image.fromarray(photograph).transpose(Image.Transpose.ROTATE_90)
    read = read_as(saved(sensor, kind, exif=TAG, quality=95, **more), 48, 3, tmp_path).transpose(1, 2, 0).astype(int)
    wanted = np.asarray(Image.fromarray(photograph).resize((48, 48), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(read - wanted).mean() < 8
