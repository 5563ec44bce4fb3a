"""The index file: tables and their upgrades, connections, settings, metadata, vectors in blocks, writing."""
