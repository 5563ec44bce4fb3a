"""Measures the index: how fast it is built, opened and searched, what it holds and what it finds.

For others: `bench.run`, behind `edge_embed bench --index`. A workload is vectors, texts and queries on disk;
an engine is measured in processes of its own, and engines take turns at the same queries.
"""
