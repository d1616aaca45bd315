"""Content in a few words: what a step of a scenario names, and what a replayed script shows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from tests.support import images

#: Sizes of the layers that images share: none at all, one byte, and some that take several reads.
LAYERS = (0, 1, 700, 5_000, 40_000, 150_000)


@dataclass(frozen=True)
class Image:
    """An image: a config of its own, and some of :data:`LAYERS`."""

    seed: int
    layers: tuple[int, ...] = ()
    docker: bool = False


@dataclass(frozen=True)
class Index:
    """An index of images and indexes."""

    of: tuple[Graph, ...]
    seed: int = 0
    docker: bool = False


Graph = Image | Index


@cache
def layer(number: int) -> bytes:
    """Return the bytes of a layer."""
    return images.random_bytes(LAYERS[number], f"layer/{number}")


@cache
def built(graph: Graph) -> images.Sample:
    """Return the content that ``graph`` stands for; the same for the same one."""
    if isinstance(graph, Image):
        shared = [layer(number) for number in graph.layers]
        return images.image(layers=0, shared=shared, seed=graph.seed, docker=graph.docker)
    annotations = {"seed": str(graph.seed)}
    return images.index_of([built(one) for one in graph.of], docker=graph.docker, annotations=annotations)
