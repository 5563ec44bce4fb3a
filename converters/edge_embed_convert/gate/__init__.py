"""The gate: what must hold of a file before it is saved.

Others may use `probe_texts` (the fixed texts), `parity` (the file against its source), `storage` (the
finished graph against its recipe) and `rerun` (both sides again, for a file that was saved).
"""
