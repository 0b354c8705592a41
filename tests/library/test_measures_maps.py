"""Measures of heat maps against slow forms of their formulas, against SciPy, and where the answer is known."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage, stats
from scipy.spatial import distance

from resilience.catalog import functions
from resilience.measures import maps, top_pixels
from resilience.measures.channels import of_pixels

#: What a measure of two maps asks for.
BOTH = ("clean", "attacked")

#: Few different values, so that there are ties, and constant and blank maps.
TIED = arrays.arrays(np.float32, (3, 2, 4, 5), elements=st.sampled_from([-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 3.0]))
PIXELS = 2 * 4 * 5

OF_TWO = {
    "overlap": lambda a, b: maps.overlap(a, b, top_k=20),
    "overlap of extreme halves": lambda a, b: maps.overlap(a, b, top_k=20, pixels="extreme_halves"),
    "recall": lambda a, b: maps.locality_sensitive_overlap(a, b, top_k=20),
    "precision": lambda a, b: maps.locality_sensitive_overlap(a, b, top_k=20, share="precision"),
    "kendall_tau": maps.kendall_tau,
    "kendall_tau of sizes": lambda a, b: maps.kendall_tau(a, b, values="absolute"),
    "spearman": maps.spearman,
    "spearman of sizes": lambda a, b: maps.spearman(a, b, values="absolute"),
    "cosine": maps.cosine,
    "l1_distance": maps.l1_distance,
    "l1_distance as it is": lambda a, b: maps.l1_distance(a, b, scale="none"),
    "l2_distance": maps.l2_distance,
    "l2_distance as it is": lambda a, b: maps.l2_distance(a, b, scale="none"),
    "ssim": maps.ssim,
    "centre_of_mass_shift": maps.centre_of_mass_shift,
}
SIMILARITIES = [name for name in OF_TWO if "distance" not in name and "shift" not in name]
#: What dividing a map by a positive number does not change.
OF_PROPORTIONS = [name for name in OF_TWO if "as it is" not in name]
#: What is 0 on average of maps that have nothing to do with each other.
CENTRED = ["kendall_tau", "spearman", "kendall_tau of sizes", "spearman of sizes", "cosine"]


def random_maps(number: int, shape: tuple[int, int, int] = (2, 6, 7), seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    first, second = np.random.default_rng(seed).normal(size=(2, number, *shape))
    return first, second


def flat(relevance: np.ndarray) -> list[float]:
    return [float(value) for value in relevance.ravel()]


# ---------------------------------------------------------------- top pixels


def top(values: list[float], count: int) -> set[int]:
    """The pixels that fewer than ``count`` others precede: those of larger size, or of the same size and smaller index."""

    def precedes(i: int, j: int) -> bool:
        return abs(values[i]) > abs(values[j]) or (abs(values[i]) == abs(values[j]) and i < j)

    return {j for j in range(len(values)) if sum(precedes(i, j) for i in range(len(values))) < count}


@settings(max_examples=60, deadline=None)
@given(TIED, TIED, st.sampled_from([1, 5, 10, 20, 33, 50, 100]))
def test_overlap_equals_a_count(clean, attacked, top_k):
    count = max(1, int(PIXELS * top_k / 100 + 1e-9))
    expected = []
    for before, after in zip(clean, attacked, strict=True):
        tops = [top(flat(part), count) for part in (before, after)]
        assert all(len(pixels) == count for pixels in tops)
        expected.append(len(tops[0] & tops[1]) / count)
    assert np.allclose(maps.overlap(clean, attacked, top_k=top_k, channels="each"), expected, rtol=0, atol=1e-15)


@settings(max_examples=50, deadline=None)
@given(TIED, TIED, st.sampled_from([10, 20, 30]))
def test_extreme_halves_are_as_many_of_either_end(clean, attacked, top_k):
    count = max(1, int(PIXELS * top_k / 2 / 100 + 1e-9))
    expected = []
    for before, after in zip(clean, attacked, strict=True):
        ends = []
        for part in (flat(before), flat(after)):
            order = sorted(range(PIXELS), key=lambda i, part=part: (part[i], i))
            ends.append({*order[:count], *order[-count:]})
        expected.append(len(ends[0] & ends[1]) / (2 * count))
    found = maps.overlap(clean, attacked, top_k=top_k, pixels="extreme_halves", channels="each")
    assert np.allclose(found, expected, rtol=0, atol=1e-15)


def test_a_pixel_that_turns_its_sign_stays_among_the_extreme_halves():
    clean = np.array([[[[5.0, -5.0, 0.1, 0.0]]]])
    assert maps.overlap(clean, -clean, top_k=50, pixels="extreme_halves")[0] == 1


@pytest.mark.parametrize(
    ("pixels", "percent", "count"), [(784, 20, 156), (64, 20, 12), (64, 1, 1), (100, 29, 29), (10, 100, 10)]
)
def test_number_of_top_pixels(pixels, percent, count):
    assert top_pixels.number_of_top_pixels(pixels, percent) == count


@settings(max_examples=60, deadline=None)
@given(TIED, TIED, st.sampled_from([3, 10, 25]), st.sampled_from([1, 2, 5]), st.sampled_from(["recall", "precision"]))
def test_locality_sensitive_overlap_equals_a_count_in_windows(clean, attacked, top_k, window, share):
    count = max(1, int(PIXELS * top_k / 100 + 1e-9))
    places = list(itertools.product(range(2), range(4), range(5)))
    expected = []
    for before, after in zip(clean, attacked, strict=True):
        of_clean, of_attacked = ({places[index] for index in top(flat(part), count)} for part in (before, after))
        counted, around = (of_attacked, of_clean) if share == "recall" else (of_clean, of_attacked)
        near = [any(c == d and max(abs(i - k), abs(j - m)) <= window for d, k, m in around) for c, i, j in sorted(counted)]
        expected.append(sum(near) / count)
    found = maps.locality_sensitive_overlap(clean, attacked, top_k=top_k, window=window, share=share, channels="each")
    assert np.allclose(found, expected, rtol=0, atol=1e-15)


def test_a_shift_by_one_pixel_leaves_no_overlap_and_all_of_it_nearby():
    clean = np.zeros((1, 1, 9, 9))
    clean[0, 0, [1, 4, 6], [1, 4, 7]] = [3.0, -2.0, 1.0]
    shifted = np.roll(clean, (1, 1), (2, 3))
    assert maps.overlap(clean, shifted, top_k=100 * 3 / 81)[0] == 0
    assert maps.locality_sensitive_overlap(clean, shifted, top_k=100 * 3 / 81)[0] == 1
    further = np.roll(clean, 2, 2)
    assert maps.locality_sensitive_overlap(clean, further, top_k=100 * 3 / 81)[0] == 0
    assert maps.locality_sensitive_overlap(clean, further, top_k=100 * 3 / 81, window=2)[0] == 1


def test_recall_asks_of_the_attacked_map_and_precision_of_the_clean_one():
    """Two top pixels of the clean map lie together, of the attacked one one stays there and the other goes away."""
    clean, attacked = np.zeros((2, 1, 1, 1, 20))
    clean[..., [0, 1]], attacked[..., [0, 19]] = 1.0, 1.0
    assert maps.locality_sensitive_overlap(clean, attacked, top_k=10)[0] == 0.5
    assert maps.locality_sensitive_overlap(clean, attacked, top_k=10, share="precision")[0] == 1


# ---------------------------------------------------------------- ranks


@settings(max_examples=40, deadline=None)
@given(TIED, TIED, st.sampled_from(["signed", "absolute"]))
def test_kendall_counts_pairs(clean, attacked, values):
    expected = []
    for before, after in zip(clean, attacked, strict=True):
        a, b = (flat(np.abs(part) if values == "absolute" else part) for part in (before, after))
        same = opposite = only_a = only_b = 0
        for i, j in itertools.combinations(range(PIXELS), 2):
            order = (a[i] - a[j]) * (b[i] - b[j])
            same, opposite = same + (order > 0), opposite + (order < 0)
            only_a, only_b = only_a + (a[i] == a[j] and b[i] != b[j]), only_b + (a[i] != a[j] and b[i] == b[j])
        pairs = (same + opposite + only_a) * (same + opposite + only_b)
        expected.append((same - opposite) / math.sqrt(pairs) if pairs else math.nan)
    found = maps.kendall_tau(clean, attacked, values=values, channels="each")
    assert np.allclose(found, expected, rtol=0, atol=1e-12, equal_nan=True)


@settings(max_examples=40, deadline=None)
@given(TIED, TIED, st.sampled_from(["signed", "absolute"]))
def test_spearman_is_the_correlation_of_counted_ranks(clean, attacked, values):
    def ranks(part: np.ndarray) -> np.ndarray:
        v = flat(np.abs(part) if values == "absolute" else part)
        return np.array([sum(other < one for other in v) + (sum(other == one for other in v) + 1) / 2 for one in v])

    expected = []
    for before, after in zip(clean, attacked, strict=True):
        a, b = ranks(before), ranks(after)
        a, b = a - a.mean(), b - b.mean()
        expected.append(a @ b / math.sqrt((a @ a) * (b @ b)) if a.any() and b.any() else math.nan)
    found = maps.spearman(clean, attacked, values=values, channels="each")
    assert np.allclose(found, expected, rtol=0, atol=1e-12, equal_nan=True)


def test_spearman_is_scipys():
    clean, attacked = random_maps(5)
    expected = [stats.spearmanr(a.ravel(), b.ravel()).statistic for a, b in zip(clean, attacked, strict=True)]
    assert np.allclose(maps.spearman(clean, attacked, channels="each"), expected)


def test_ranks_ignore_what_keeps_the_order():
    clean, attacked = random_maps(5, (1, 6, 7))
    for measure in (maps.spearman, maps.kendall_tau):
        assert np.allclose(measure(clean, attacked), measure(clean**3, np.exp(attacked)))
        assert np.allclose(measure(clean, -clean), -1)


# ---------------------------------------------------------------- sizes


def test_cosine_is_scipys():
    clean, attacked = random_maps(5)
    expected = [1 - distance.cosine(a.ravel(), b.ravel()) for a, b in zip(clean, attacked, strict=True)]
    assert np.allclose(maps.cosine(clean, attacked, channels="each"), expected)


def test_cosine_of_tiny_and_of_huge_maps():
    """Squares of such values are 0, or infinite, in double precision."""
    clean, attacked = random_maps(5)
    expected = maps.cosine(clean, attacked)
    assert np.allclose(maps.cosine(clean * 1e-200, attacked * 1e200), expected)


@pytest.mark.parametrize("scale", ["sum", "none"])
def test_distances_are_numpys(scale):
    clean, attacked = random_maps(4)
    for row, (a, b) in enumerate(zip(clean, attacked, strict=True)):
        a, b = a.ravel(), b.ravel()
        if scale == "sum":
            a, b = a / sum(abs(value) for value in a), b / sum(abs(value) for value in b)
        assert maps.l1_distance(clean, attacked, scale=scale, channels="each")[row] == pytest.approx(
            np.linalg.norm(a - b, 1)
        )
        assert maps.l2_distance(clean, attacked, scale=scale, channels="each")[row] == pytest.approx(
            np.linalg.norm(a - b, 2)
        )


def test_opposite_maps_are_as_far_apart_as_can_be():
    clean, _ = random_maps(4)
    assert np.allclose(maps.l1_distance(clean, -clean), 2)
    one = np.eye(4).reshape(1, 1, 4, 4)[:, :, :1]
    assert maps.l2_distance(one, -one)[0] == 2


# ---------------------------------------------------------------- places


def slow_ssim(a: np.ndarray, b: np.ndarray, sigma: float = 1.5, radius: int = 5) -> float:
    """Of one channel: every window written out, with pixels beyond the border mirrored."""

    def mirrored(index: int, size: int) -> int:
        index %= 2 * size
        return index if index < size else 2 * size - 1 - index

    a, b = ((part / abs(part).max() + 1) / 2 for part in (a, b))
    (height, width), offsets = a.shape, range(-radius, radius + 1)
    weights = {(i, j): math.exp(-(i * i + j * j) / (2 * sigma**2)) for i in offsets for j in offsets}
    total, c1, c2, found = sum(weights.values()), 0.01**2, 0.03**2, []
    for row, column in itertools.product(range(height), range(width)):
        window = [
            (weight / total, a[place], b[place])
            for (i, j), weight in weights.items()
            for place in [(mirrored(row + i, height), mirrored(column + j, width))]
        ]
        mean_a, mean_b = sum(w * p for w, p, _ in window), sum(w * q for w, _, q in window)
        var_a = sum(w * (p - mean_a) ** 2 for w, p, _ in window)
        var_b = sum(w * (q - mean_b) ** 2 for w, _, q in window)
        covariance = sum(w * (p - mean_a) * (q - mean_b) for w, p, q in window)
        luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
        found.append(luminance * (2 * covariance + c2) / (var_a + var_b + c2))
    return sum(found) / len(found)


def test_ssim_is_its_formula():
    clean, attacked = random_maps(2, (1, 4, 6))
    expected = [slow_ssim(a[0], b[0]) for a, b in zip(clean, attacked, strict=True)]
    assert np.allclose(maps.ssim(clean, attacked), expected)
    expected = [slow_ssim(a[0], b[0], 0.6, 2) for a, b in zip(clean, attacked, strict=True)]
    assert np.allclose(maps.ssim(clean, attacked, sigma=0.6), expected)


def test_ssim_of_channels_is_the_mean_of_theirs_divided_by_one_maximum():
    clean, attacked = random_maps(3, (1, 6, 6))
    both = [np.concatenate([part, part[:, :, ::-1]], 1) for part in (clean, attacked)]
    assert np.allclose(maps.ssim(*both, channels="each"), maps.ssim(clean, attacked))


def test_ssim_of_nearly_equal_of_unlike_and_of_opposite_maps():
    clean = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(20, 1, 16, 16)), 1.5, axes=(2, 3))
    noise = ndimage.gaussian_filter(np.random.default_rng(1).normal(size=(20, 1, 16, 16)), 1.5, axes=(2, 3))
    assert maps.ssim(clean, clean + 0.2 * noise).mean() > 0.8
    assert abs(maps.ssim(clean, noise).mean()) < 0.2
    assert (maps.ssim(clean, -clean) < 0).all()


def test_centre_of_mass_is_scipys():
    clean, attacked = random_maps(5)
    for row, pair in enumerate(zip(clean, attacked, strict=True)):
        first, second = (ndimage.center_of_mass(np.abs(part).sum(0)) for part in pair)
        assert maps.centre_of_mass_shift(clean, attacked, channels="each")[row] == pytest.approx(math.dist(first, second))


def test_a_pixel_that_moves_moves_the_centre_as_far():
    clean, attacked = np.zeros((2, 1, 3, 9, 9))
    clean[0, 0, 2, 3], attacked[0, 2, 5, 7] = -1.0, 8.0
    assert maps.centre_of_mass_shift(clean, attacked)[0] == 5


def test_relevant_is_the_share_of_pixels_that_are_not_zero():
    clean = np.array([[[[4.0, -3.0], [2.0, 0.0]]], [[[0.0, 0.0], [0.0, -0.0]]], [[[1e-300, 1.0], [1.0, 1.0]]]])
    assert list(maps.relevant(clean)) == [0.75, 0.0, 1.0]


# ---------------------------------------------------------------- colour

BY_CHANNELS = {
    "overlap": partial(maps.overlap, top_k=20),
    "locality_sensitive_overlap": partial(maps.locality_sensitive_overlap, top_k=10),
    "kendall_tau": maps.kendall_tau,
    "spearman": partial(maps.spearman, values="absolute"),
    "cosine": maps.cosine,
    "l1_distance": maps.l1_distance,
    "l2_distance": partial(maps.l2_distance, scale="none"),
    "ssim": maps.ssim,
    "centre_of_mass_shift": maps.centre_of_mass_shift,
}


def test_every_measure_of_two_maps_says_what_a_pixel_is():
    assert set(BY_CHANNELS) == {name for name, known in functions("measures").items() if known.inputs == BOTH}


@pytest.mark.parametrize("name", BY_CHANNELS)
def test_a_pixel_of_a_colour_image_has_the_sum_over_its_channels(name):
    clean, attacked = (part.astype(np.float32) for part in random_maps(4, (3, 6, 7)))
    measure = BY_CHANNELS[name]
    summed = [(part[:, 0] + part[:, 1] + part[:, 2])[:, None] for part in (clean, attacked)]
    assert np.allclose(measure(clean, attacked), measure(*summed, channels="each"))
    assert not np.allclose(measure(clean, attacked), measure(clean, attacked, channels="each"))


@pytest.mark.parametrize("name", BY_CHANNELS)
def test_of_grey_images_nothing_is_summed(name):
    clean, attacked = (part.astype(np.float32) for part in random_maps(4, (1, 6, 7)))
    assert np.array_equal(*(BY_CHANNELS[name](clean, attacked, channels=channels) for channels in ("sum", "each")))


def test_channels_that_cancel_make_no_relevance():
    relevance = np.zeros((1, 3, 2, 2))
    relevance[0, :, 0, 0], relevance[0, :, 1, 1] = (2.0, -1.0, -1.0), (1.0, 0.0, 0.5)
    assert (maps.relevant(relevance)[0], maps.relevant(relevance, channels="each")[0]) == (1 / 4, 5 / 12)
    assert np.array_equal(top_pixels.top_pixels(of_pixels(relevance), 25)[0, 0], [[False, False], [False, True]])


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy], ids=["arrays", "tensors"])
def test_what_a_pixel_is_has_its_shape(kind):
    relevance = kind(random_maps(2, (3, 4, 5))[0])
    assert (of_pixels(relevance).shape, of_pixels(relevance, "each").shape) == ((2, 1, 4, 5), (2, 3, 4, 5))
    assert of_pixels(grey := relevance[:, :1]) is grey


# ---------------------------------------------------------------- all of them


@pytest.mark.parametrize("name", OF_TWO)
def test_a_value_for_each_point_which_is_its_own(name):
    clean, attacked = random_maps(4)
    found = OF_TWO[name](clean.astype(np.float32), attacked.astype(np.float32))
    assert found.shape == (4,)
    assert found.dtype == np.float64
    alone = [OF_TWO[name](clean[[i]].astype(np.float32), attacked[[i]].astype(np.float32))[0] for i in range(4)]
    assert np.array_equal(found, alone)


@pytest.mark.parametrize("name", OF_TWO)
def test_a_map_is_as_itself(name):
    clean, _ = random_maps(4)
    assert np.allclose(OF_TWO[name](clean, clean), 1 if name in SIMILARITIES else 0, atol=1e-12)


@pytest.mark.parametrize("name", OF_TWO)
def test_no_measure_prefers_one_of_two_maps(name):
    clean, attacked = random_maps(4)
    there, back = OF_TWO[name](clean, attacked), OF_TWO[name](attacked, clean)
    if name in ("recall", "precision"):
        back = OF_TWO["precision" if name == "recall" else "recall"](attacked, clean)
    assert np.allclose(there, back)


@pytest.mark.parametrize("name", OF_PROPORTIONS)
def test_the_size_of_a_map_does_not_count(name):
    clean, attacked = random_maps(4)
    assert np.allclose(OF_TWO[name](clean, attacked), OF_TWO[name](clean * 8, attacked / 1024))


@pytest.mark.parametrize("name", OF_TWO)
def test_inputs_are_left_as_they_were(name):
    clean, attacked = random_maps(2)
    before = clean.copy(), attacked.copy()
    OF_TWO[name](clean, attacked)
    assert np.array_equal(before, (clean, attacked))


#: Measures that rank nothing, or divide by nothing, where a map is blank.
UNDEFINED_OF_BLANK = [
    *CENTRED,
    "l1_distance",
    "l2_distance",
    "centre_of_mass_shift",
]


@pytest.mark.parametrize("name", OF_TWO)
@pytest.mark.filterwarnings("error")
def test_blank_maps(name):
    blank, (some, _) = np.zeros((2, 1, 4, 4)), random_maps(2, (1, 4, 4))
    for pair in ((blank, blank), (blank, some), (some, blank)):
        assert np.isnan(OF_TWO[name](*pair)).all() == (name in UNDEFINED_OF_BLANK)
    if name not in UNDEFINED_OF_BLANK:
        assert np.allclose(OF_TWO[name](blank, blank), name in SIMILARITIES)


@pytest.mark.parametrize("name", OF_TWO)
@pytest.mark.filterwarnings("error")
def test_constant_maps(name):
    constant, (some, _) = np.full((2, 1, 4, 4), -0.25), random_maps(2, (1, 4, 4))
    undefined = "kendall" in name or "spearman" in name
    for pair in ((constant, constant), (constant, some)):
        assert np.isnan(OF_TWO[name](*pair)).all() == undefined
    if not undefined:
        assert np.allclose(OF_TWO[name](constant, constant), name in SIMILARITIES)


@pytest.mark.parametrize("name", OF_TWO)
@pytest.mark.filterwarnings("error")
def test_maps_of_one_pixel(name):
    found = OF_TWO[name](np.full((1, 1, 1, 1), 3.0), np.full((1, 1, 1, 1), 2.0))
    if "kendall" in name or "spearman" in name:
        assert np.isnan(found).all()
    else:
        assert found[0] == pytest.approx(1 if name in SIMILARITIES or "as it is" in name else 0)


@pytest.mark.parametrize("name", OF_TWO)
@pytest.mark.filterwarnings("error")
def test_maps_of_negative_relevance_alone(name):
    clean, attacked = (-np.abs(part) for part in random_maps(3))
    found = OF_TWO[name](clean, attacked)
    assert np.isfinite(found).all()
    signless = (
        name not in ("overlap of extreme halves", "kendall_tau", "spearman", "cosine", "ssim") and "distance" not in name
    )
    if signless:
        assert np.array_equal(found, OF_TWO[name](-clean, -attacked))


@pytest.mark.parametrize("name", OF_TWO)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_maps_that_are_not_finite_are_refused(name, value):
    clean, attacked = random_maps(3)
    attacked[1, 0, 2, 2] = value
    with pytest.raises(maps.RelevanceError, match=r"^1 of 3 attacked heat maps have values that are not finite$"):
        OF_TWO[name](clean, attacked)
    with pytest.raises(maps.RelevanceError, match=r"^1 of 3 clean heat maps"):
        OF_TWO[name](attacked, clean)


def test_a_map_that_is_not_finite_has_no_share_of_relevance():
    with pytest.raises(maps.RelevanceError, match=r"^2 of 2 clean heat maps"):
        maps.relevant(np.full((2, 1, 2, 2), np.nan))


@pytest.mark.parametrize("name", OF_TWO)
def test_maps_of_other_shapes_are_refused(name):
    clean, attacked = random_maps(2)
    with pytest.raises(maps.RelevanceError, match=r"shape \[2, 2, 6, 7\] .* \[2, 1, 6, 7\] cannot be compared"):
        OF_TWO[name](clean, attacked[:, :1])


# ---------------------------------------------------------------- chance


def test_random_maps_overlap_by_chance():
    first, second = random_maps(2000, (1, 10, 10))
    assert abs(maps.overlap(first, second, top_k=20).mean() - top_pixels.chance(20)) < 0.01
    assert abs(maps.overlap(first, second, top_k=20, pixels="extreme_halves").mean() - 0.2) < 0.01


@pytest.mark.parametrize(("top_k", "window"), [(2, 1), (5, 1), (20, 1), (2, 3)])
def test_random_maps_are_near_by_the_chance_of_a_window(top_k, window):
    """Away from the border, of whose windows a part is cut off."""
    first, second = random_maps(200, (1, 40, 40))
    found = maps.locality_sensitive_overlap(first, second, top_k=top_k, window=window).mean()
    assert found == pytest.approx(1 - (1 - top_k / 100) ** ((2 * window + 1) ** 2), rel=0.08)


@pytest.mark.parametrize("name", CENTRED)
def test_random_maps_have_no_correlation(name):
    first, second = random_maps(1000, (1, 6, 6))
    assert abs(OF_TWO[name](first, second).mean()) < 4 * OF_TWO[name](first, second).std() / math.sqrt(1000)


def test_a_job_of_maps_imports_no_torch():
    code = "import sys, resilience.measures.maps, resilience.measures.predictions; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
