# SPDX-License-Identifier: Apache-2.0
"""What runs in worker processes, with the standard library alone; `drivers/worker.py` starts it and speaks to it."""
