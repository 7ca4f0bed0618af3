# SPDX-License-Identifier: Apache-2.0
"""Benchmarks: vdsm and something comparable, side by side in one run; what counts is the ratio."""
