from __future__ import annotations

from resilience import flow

ARROWS = [("data", "train"), ("data", "points"), ("train", "attack"), ("points", "attack"), ("data", "report")]
ARROWS += [("attack", "report"), ("train", "report"), ("data", "plot"), ("plot", "report")]


def test_every_rule_stands_below_what_it_reads():
    places = flow.draw(ARROWS).rules
    assert set(places) == {"data", "train", "points", "attack", "plot", "report"}
    assert all(places[maker][1] < places[reader][1] for maker, reader in ARROWS)


def test_no_two_things_share_a_place():
    drawing = flow.draw(ARROWS)
    inner = [place for way in drawing.arrows for place in way[1:-1]]
    assert len(inner) == 1
    assert len({*drawing.rules.values(), *inner}) == len(drawing.rules) + len(inner)


def test_arrows_that_say_nothing_new_are_left_out():
    drawing = flow.draw(ARROWS)
    names = {place: name for name, place in drawing.rules.items()}
    drawn = {(names[way[0]], names[way[-1]]) for way in drawing.arrows}
    assert drawn == set(ARROWS) - {("data", "report"), ("train", "report")}


def test_an_arrow_passes_every_layer_between_its_ends():
    for way in flow.draw(ARROWS).arrows:
        layers = [layer for _, layer in way]
        assert layers == list(range(layers[0], layers[-1] + 1))


def test_the_drawing_says_how_large_it_is():
    drawing = flow.draw(ARROWS)
    assert drawing.layers == 4
    assert drawing.columns == 1.0


def test_the_order_of_the_arrows_does_not_matter():
    assert flow.draw(reversed(ARROWS)) == flow.draw(ARROWS)


def test_a_rule_may_read_what_another_of_its_jobs_makes():
    assert flow.draw([*ARROWS, ("train", "train")]) == flow.draw(ARROWS)


def test_an_arrow_that_closes_a_circle_is_left_out():
    circle = [("train", "explain"), ("explain", "derive"), ("data", "derive"), ("derive", "train")]
    drawn = flow.without_circles([*ARROWS, *circle])
    assert set(ARROWS) <= set(drawn)
    assert len({*ARROWS, *circle} - set(flow.without_circles([*ARROWS, *circle]))) == 1
    assert len(flow.draw([*ARROWS, *circle]).rules) == 8
