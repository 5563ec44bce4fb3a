"""Measures the server: rate and latency under load, memory over many requests, what it does when overloaded.

For others: `bench.run`, behind `edge_embed bench --serve`. The load comes from raw sockets in the process of
the command; the server, and the model itself that it is compared with, are processes of their own.
"""
