# SPDX-License-Identifier: Apache-2.0
"""vdsmsh: everything the daemon can do, from a command line. Commands come from the contract."""
