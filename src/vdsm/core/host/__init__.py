# SPDX-License-Identifier: Apache-2.0
"""The host itself: what it can do and how it does."""
