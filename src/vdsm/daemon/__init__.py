# SPDX-License-Identifier: Apache-2.0
"""The process: it reads its configuration, wires everything together, and serves until told to stop."""
