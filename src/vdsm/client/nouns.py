# SPDX-License-Identifier: Apache-2.0
"""Attributes for nouns and verbs: `host.vm.get_stats`. Their static types are in nouns.pyi, which is generated."""

from __future__ import annotations

from functools import partial

from vdsm.contract import VERBS

_NOUNS = {}
for _verb in VERBS.values():
    _NOUNS.setdefault(_verb.noun, {})[_verb.name] = _verb


class Noun:
    """The verbs of one noun."""

    def __init__(self, name, do):
        self._name = name
        self._do = do

    def __getattr__(self, name):
        verb = _NOUNS[self._name].get(name)
        if verb is None:
            raise AttributeError(f"{self._name} has no verb {name!r}; it has {', '.join(_NOUNS[self._name])}")
        return partial(self._do, verb)

    def __dir__(self):
        return list(_NOUNS[self._name])


class Nouns:
    """What has the nouns as attributes. `_do(verb, *args, **kwargs)` is what calling one does."""

    def __getattr__(self, name):
        if name not in _NOUNS:
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}; nouns are {', '.join(_NOUNS)}")
        return Noun(name, self._do)

    def __dir__(self):
        return [*super().__dir__(), *_NOUNS]


PlanNouns = OutcomeNouns = Nouns  # told apart only by their static types
