# SPDX-License-Identifier: Apache-2.0
"""The API as data: nouns, verbs, types, problems, events. Importing it imports every noun."""

from . import (
    audit,
    disk,
    errors_domains,
    errors_storage,
    event,
    host,
    image,
    nbd,
    sdm,
    storage,
    storage_domain,
    storage_pool,
    task,
    token,
    vm,
    volume,
)
from ._verb import VERBS, AnyVerb, ByteStream, ChosenTaskId, ContractError, Kind, Needs, Route, Verb, Wire
from .lint import check

__all__ = [
    "VERBS",
    "AnyVerb",
    "ByteStream",
    "ChosenTaskId",
    "ContractError",
    "Kind",
    "Needs",
    "Route",
    "Verb",
    "Wire",
    "audit",
    "check",
    "disk",
    "errors_domains",
    "errors_storage",
    "event",
    "host",
    "image",
    "nbd",
    "sdm",
    "storage",
    "storage_domain",
    "storage_pool",
    "task",
    "token",
    "vm",
    "volume",
]
