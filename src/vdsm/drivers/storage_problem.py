# SPDX-License-Identifier: Apache-2.0
"""What an error of the file system means to a user of the storage."""

from __future__ import annotations

import errno
import os
import posixpath

from vdsm.contract.errors import Problem
from vdsm.contract.errors_storage import (
    FileExists,
    FileMissing,
    NoSpaceLeftOnDomain,
    PathEscapes,
    StorageBroken,
    StorageReadOnly,
)

_READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)
_FULL = (errno.ENOSPC, errno.EDQUOT)
_OUTSIDE = (errno.ELOOP, errno.EXDEV)
_THERE = (errno.EEXIST, errno.ENOTEMPTY)


def storage_problem(error: OSError, file: str, root: str = "") -> Problem:
    """`root`: the directory that `file` should be below, by default the one it is in."""
    number = error.errno or errno.EIO
    if number in _OUTSIDE:
        return PathEscapes(file=file, root=root or posixpath.dirname(file))
    if number == errno.ENOENT:
        return FileMissing(file=file)
    if number in _THERE:
        return FileExists(file=file)
    if number in _FULL:
        return NoSpaceLeftOnDomain(file=file)
    if number in _READ_ONLY:
        return StorageReadOnly(file=file, reason=os.strerror(number))
    return StorageBroken(file=file, reason=os.strerror(number))
