"""A drawing of which rule reads what another makes: boxes in layers from top to bottom, as far down as their inputs ask."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from graphlib import TopologicalSorter
from itertools import chain, pairwise

#: The name of a rule, or an arrow where it passes a layer between its ends.
Node = str | tuple[str, str, int]
#: Columns to the right of the middle, and layers below the first.
Place = tuple[float, int]


@dataclass(frozen=True)
class Drawing:
    """Where each rule stands, and the places that each arrow passes."""

    rules: dict[str, Place]
    arrows: list[list[Place]]

    @property
    def columns(self) -> float:
        """How many columns there are on either side of the middle."""
        return max(abs(column) for column, _ in chain(self.rules.values(), *self.arrows))

    @property
    def layers(self) -> int:
        """How many layers there are."""
        return 1 + max(layer for _, layer in self.rules.values())


def draw(arrows: Iterable[tuple[str, str]]) -> Drawing:
    """Lay out a graph of rules.

    An arrow is left out where a longer way leads to the same end, so that the order of the rules can be seen, and where it
    would close a circle: a rule that reads what another job of its own makes, or a dataset that is made with the help of a
    network which learns on another one.

    Parameters
    ----------
    arrows
        Pairs of a rule and one that reads what it makes.
    """
    readers: dict[str, set[str]] = defaultdict(set)
    for maker, reader in without_circles(arrows):
        readers[maker]
        readers[reader].add(maker)
    behind: dict[str, set[str]] = {}
    layers: dict[str, int] = {}
    for name in TopologicalSorter(readers).static_order():
        behind[name] = readers[name].union(*(behind[maker] for maker in readers[name]))
        layers[name] = 1 + max((layers[maker] for maker in readers[name]), default=-1)
    ways: list[list[Node]] = [
        [maker, *((maker, reader, layer) for layer in range(layers[maker] + 1, layers[reader])), reader]
        for reader, makers in sorted(readers.items())
        for maker in sorted(makers)
        if not any(maker in behind[other] for other in makers)
    ]
    places = _places(layers, ways)
    return Drawing({name: places[name] for name in layers}, [[places[node] for node in way] for way in ways])


def without_circles(arrows: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """The arrows but for those that close a circle, seen from where the ways begin."""
    onwards: dict[str, list[str]] = defaultdict(list)
    for maker, reader in sorted(arrows):
        onwards[maker].append(reader)
    ends = {reader for readers in onwards.values() for reader in readers}
    done: set[str] = set()

    def follow(maker: str, way: tuple[str, ...]) -> Iterator[tuple[str, str]]:
        done.add(maker)
        for reader in onwards.get(maker, ()):
            if reader not in (*way, maker):
                yield maker, reader
                if reader not in done:
                    yield from follow(reader, (*way, maker))

    for maker in [*sorted(onwards.keys() - ends), *sorted(onwards)]:
        if maker not in done:
            yield from follow(maker, ())


def _places(layers: dict[str, int], ways: list[list[Node]]) -> dict[Node, Place]:
    """Places such that what follows on each other stands below each other, as far as there is room."""
    above: dict[Node, list[Node]] = defaultdict(list)
    rows: dict[int, list[Node]] = defaultdict(list)
    for name, layer in layers.items():
        rows[layer].append(name)
    for way in ways:
        for upper, lower in pairwise(way):
            above[lower].append(upper)
            if isinstance(lower, tuple):
                rows[lower[2]].append(lower)
    places: dict[Node, Place] = {}
    for layer, row in sorted(rows.items()):
        middles = {node: sum(places[upper][0] for upper in above[node]) / max(1, len(above[node])) for node in row}
        row.sort(key=lambda node: (middles[node], str(node)))
        places |= {node: (index - (len(row) - 1) / 2, layer) for index, node in enumerate(row)}
    return places
