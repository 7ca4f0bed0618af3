# SPDX-License-Identifier: Apache-2.0
"""Files that follow from the contract. Each module has a `files()`: paths below the project's root, and their text."""
