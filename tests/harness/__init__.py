# SPDX-License-Identifier: Apache-2.0
"""What tests of several folders use: hosts, clients, brokers, and what they must say."""

import pytest

pytest.register_assert_rewrite(*(f"{__name__}.{name}" for name in ("conformance", "readers", "story", "sheet")))
