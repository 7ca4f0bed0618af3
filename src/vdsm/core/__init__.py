# SPDX-License-Identifier: Apache-2.0
"""What the verbs do. It knows ports, not programs."""
