"""The self-check at load and the parity report."""
