"""A history inside a picture or a page: found by those who read these, and nothing of what they show is changed."""

from __future__ import annotations

import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from resilience.artifacts import json_text
from resilience.embedding import FORMATS
from resilience.figures import drawing

TOLD = {"settings": {"name": "<é> (a) \\ b -- c", "epsilon": 1e-06}, "long": "x" * 20_000}


def drawn(kind: str) -> bytes:
    figure, axes = drawing.canvas(1, 1, 2.0, 2.0)
    axes[0, 0].plot([0, 1], [1, 0])
    content = io.BytesIO()
    figure.savefig(content, format=kind)
    return content.getvalue()


CONTENTS = {".png": drawn("png"), ".pdf": drawn("pdf"), ".html": b"<!doctype html>\n<html>\n<p>--> a\n</html>\n"}


@pytest.mark.parametrize("suffix", FORMATS)
def test_what_is_put_in_is_found_and_the_file_is_as_it_was_without(suffix):
    kind, content, text = FORMATS[suffix], CONTENTS[suffix], json_text(TOLD)
    whole = kind.embed(content, text)
    assert kind.split(whole) == (content, text)
    assert kind.split(content) == (content, None)


def test_a_picture_shows_what_it_did_and_readers_find_the_history():
    whole = FORMATS[".png"].embed(CONTENTS[".png"], json_text(TOLD))
    with Image.open(io.BytesIO(whole)) as picture, Image.open(io.BytesIO(CONTENTS[".png"])) as before:
        assert json.loads(picture.text["History"]) == TOLD
        assert np.array_equal(np.asarray(picture), np.asarray(before))


def test_a_pdf_ends_with_an_update_whose_places_are_right():
    """As readers go through it: from the end to the newest table of places, from there to the object and the older table."""
    whole = FORMATS[".pdf"].embed(CONTENTS[".pdf"], json_text(TOLD))
    last = int(re.search(rb"startxref\n(\d+)\n%%EOF\n\Z", whole)[1])
    number, place = re.match(rb"xref\n(\d+) 1\n(\d{10}) 00000 n \n", whole[last:]).groups()
    assert whole[int(place) :].startswith(number + b" 0 obj\n<< /Creator")
    assert b"/Info " + number + b" 0 R" in whole[last:]
    before = int(re.search(rb"/Prev (\d+)", whole[last:])[1])
    assert whole[before:].startswith(b"xref\n")
    assert whole.startswith(CONTENTS[".pdf"])


def test_a_page_stays_a_page():
    whole = FORMATS[".html"].embed(CONTENTS[".html"], json_text(TOLD)).decode()
    assert whole.splitlines()[0] == "<!doctype html>"
    comment = whole.splitlines()[1]
    assert comment.startswith("<!-- history: {")
    assert comment.count("-->") == 1
    with pytest.raises(ValueError, match="could end the comment"):
        FORMATS[".html"].embed(CONTENTS[".html"], "-->")
