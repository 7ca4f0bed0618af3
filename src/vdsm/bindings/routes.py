# SPDX-License-Identifier: Apache-2.0
"""Method and path -> what serves them, by one look-up per path segment however many routes there are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

T = TypeVar("T")

Values = tuple[str, ...]
"""Of a path's parameters, in their order."""


class _Node(Generic[T]):
    __slots__ = ("fixed", "free", "target")

    def __init__(self) -> None:
        self.fixed: dict[str, _Node[T]] = {}
        self.free: _Node[T] | None = None  # the `{parameter}` here
        self.target: T | None = None


class Routes(Generic[T]):
    """A fixed segment beats a parameter in its place; a parameter is never empty."""

    def __init__(self) -> None:
        self._roots: dict[str, _Node[T]] = {}

    def add(self, method: str, path: str, target: T) -> None:
        node = self._roots.setdefault(method, _Node())
        for segment in path.split("/")[1:]:
            if segment.startswith("{"):
                node.free = node.free or _Node()
                node = node.free
            else:
                node = node.fixed.setdefault(segment, _Node())
        if node.target is not None:
            raise ValueError(f"{method} {path} is routed twice")
        node.target = target

    def find(self, method: str, segments: Sequence[str]) -> tuple[T, Values] | None:
        """The target and the values of the path's parameters."""
        root = self._roots.get(method)
        if root is None:
            return None
        values: list[str] = []
        target = _walk(root, segments, 0, values)
        return None if target is None else (target, tuple(values))

    def methods(self, segments: Sequence[str]) -> list[str]:
        """The methods a path takes; empty if there is no such path."""
        return [m for m, root in self._roots.items() if _walk(root, segments, 0, []) is not None]


def _walk(node: _Node[T], segments: Sequence[str], at: int, values: list[str]) -> T | None:
    if at == len(segments):
        return node.target
    segment = segments[at]
    fixed = node.fixed.get(segment)
    if fixed is not None and (found := _walk(fixed, segments, at + 1, values)) is not None:
        return found
    if node.free is not None and segment:
        values.append(segment)
        if (found := _walk(node.free, segments, at + 1, values)) is not None:
            return found
        values.pop()
    return None
