"""The graph of imports stays readable: few boxes and arrows at the top level of `device_app`.

A box is a module or a folder directly below the package, an arrow is any import between two of
them. `python -m tests.test_import_graph [PACKAGE...]` prints both for a package. That there are no
circles is an import contract.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import grimp

if TYPE_CHECKING:
    from collections.abc import Sequence

PACKAGES = ("handfast", "peer", "iam", "device_app", "client_app")
MOST_BOXES = 20
MOST_ARROWS = 60


def boxes_and_arrows(graph: grimp.ImportGraph, package: str) -> tuple[set[str], set[str]]:
    """The boxes of a package, and its arrows as "FROM -> TO"."""
    boxes = graph.find_children(package)
    box_of = {name: box for box in boxes for name in {box} | graph.find_descendants(box)}
    arrows = {
        f"{box_of[name]} -> {box_of[imported]}"
        for name in box_of
        for imported in graph.find_modules_directly_imported_by(name)
        if box_of.get(imported, box_of[name]) != box_of[name]
    }
    return boxes, arrows


def test_the_top_level_of_the_device_fits_on_a_page() -> None:
    """If it does not, move a module into the folder that uses it."""
    boxes, arrows = boxes_and_arrows(grimp.build_graph("device_app", cache_dir=None), "device_app")
    assert len(boxes) <= MOST_BOXES, sorted(boxes)
    assert len(arrows) <= MOST_ARROWS, sorted(arrows)


def test_an_import_between_two_boxes_is_an_arrow() -> None:
    graph = grimp.ImportGraph()
    for name in ("app", "app.one", "app.one.a", "app.one.b", "app.two"):
        graph.add_module(name)
    for importer, imported in (("one.a", "one.b"), ("one.a", "two"), ("one.b", "two")):
        graph.add_import(importer=f"app.{importer}", imported=f"app.{imported}")
    assert boxes_and_arrows(graph, "app") == ({"app.one", "app.two"}, {"app.one -> app.two"})


def main(packages: Sequence[str]) -> None:
    """Print the boxes and the arrows of packages."""
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    for package in packages or PACKAGES:
        boxes, arrows = boxes_and_arrows(graph, package)
        print(f"{package}: {len(boxes)} boxes, {len(arrows)} arrows")
        print(*(f"  {arrow}" for arrow in sorted(arrows)), sep="\n")


if __name__ == "__main__":
    main(sys.argv[1:])
