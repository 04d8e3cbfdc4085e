"""Images that a dataset has twice, and images of a held-out list: found before any part is annotated.

hash every unit's images -> compare (hash shares, or bands of perceptual hashes) -> duplicates.parquet -> marks in the
units' indices. The first in plan order stays.
"""
