# SPDX-License-Identifier: Apache-2.0
"""Definitions of machines that a manager keeps in its pool, for the day it is lost."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from .types import END, Input, VmId

LONGEST_OVF = 1 << 20  # characters; a machine of a hundred disks and snapshots needs a tenth of it
_TEXT = r"[^\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]"  # what an XML document may hold

Ovf = Annotated[
    str,
    Meta(
        max_length=LONGEST_OVF,
        pattern=f"^{_TEXT}*{END}",
        description="The manager's document, which is kept and never read.",
    ),
]
ImageIds = Annotated[
    str, Meta(max_length=1 << 16, pattern=r"^([0-9a-f-]{36}(,[0-9a-f-]{36})*,?)?" + END, description="Ids, by commas.")
]


class BackedUpVm(Input, frozen=True, kw_only=True):
    """A machine and its definition; its images are the manager's affair."""

    vm: VmId
    imglist: ImageIds = ""
    ovf: Ovf
