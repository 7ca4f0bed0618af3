# SPDX-License-Identifier: Apache-2.0
"""One outside program or library each, behind a port of the core."""
